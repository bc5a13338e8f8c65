"""The server of `forebay top`: `serve_statistics` answers requests at a Unix socket.

The client is `forebay/cli/_top/client.py`. It sends a line with any content, and receives a line of
JSON: an object with the time of the program's clock, and per buffer the fields of its
`BufferStatistics`, read from `Buffers.statistics()`. So the client sets the pace, and a client that
does not read receives no further answers. The last line is `null`: if a connection ends without
it, the program was killed.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import socket
import stat
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack, contextmanager, suppress

import trio

from forebay._group import Buffers
from forebay._own_files import is_same_file, opened_folder, owner_problem
from forebay._protection import protected_context, raise_together, run_to_end

_MAX_REQUEST_BYTES = 1024
"""Bytes that a client may send without a line ending."""

_FAREWELL = b"null\n"
_FAREWELL_TIMEOUT = 0.5
"""Seconds that the end of the block may wait for a client that does not read."""

_OWNER_ONLY = 0o600


@protected_context
async def serve_statistics(
    path: str | os.PathLike[str], buffers: Buffers
) -> AsyncGenerator[None, None]:
    """Let `forebay top PATH` show the buffers, for the time of an `async with` block.

    Only the user that owns the process can connect to the socket, and no network port is opened. A
    socket that a program of this user left behind when it died is replaced; a socket that another
    program serves is not, nor is a symbolic link or a file of another user.

    When the block ends, normally, by an exception, or by cancellation, the clients receive a
    farewell, the connections are closed, and the socket is removed. This takes up to 0.5 s if a
    client does not read.

    Within `open_buffers` the block ends before the drain begins. To show the drain as well, serve
    from a task of a nursery around the buffers, and cancel that nursery when the buffers are
    closed::

        async def serve(buffers, task_status):
            async with forebay.serve_statistics("hits.sock", buffers):
                task_status.started()
                await trio.sleep_forever()


        async with trio.open_nursery() as nursery:
            async with forebay.open_buffers(store, hits) as buffers:
                await nursery.start(serve, buffers)
                ...
            nursery.cancel_scope.cancel()

    Args:
        path: the path of the socket. The system limits its length to about 100 bytes.
        buffers: the object that `open_buffers` yielded.

    Raises:
        FileExistsError: the path exists and is not a socket of this user, or another program serves
            it.
        OSError: the socket cannot be created: the folder does not exist, permission is denied, or
            the path is too long.
    """
    errors: list[BaseException] = []
    ended = trio.Event()
    with _listening(os.fsdecode(path)) as listener:
        try:
            async with trio.open_nursery() as nursery:

                async def answer(stream: trio.SocketStream) -> None:
                    # A client may end its connection at any time.
                    with suppress(trio.BrokenResourceError, ConnectionError):
                        await _answer(stream, buffers)

                @trio.lowlevel.enable_ki_protection
                async def serve() -> None:
                    try:
                        await trio.serve_listeners(answer, [listener])
                    finally:
                        ended.set()

                nursery.start_soon(serve)
                try:
                    yield
                except BaseException as error:  # noqa: BLE001  # raised again below, without a group
                    errors.append(error)
                nursery.cancel_scope.cancel()
                errors += await run_to_end(ended.wait)
        except BaseException as error:  # noqa: BLE001  # Ctrl-C in Trio's own tasks for the clients
            errors.append(error)
    raise_together("serve_statistics ended after an error", errors)


async def _answer(stream: trio.SocketStream, buffers: Buffers) -> None:
    """Answer the requests of one client until it ends the connection, or the block ends."""
    unsent = b""
    try:
        while await _wait_for_request(stream):
            unsent = _snapshot(buffers)
            while unsent:
                unsent = unsent[await stream.socket.send(unsent) :]
    except trio.Cancelled:  # the block ends
        with trio.move_on_after(_FAREWELL_TIMEOUT, shield=True):
            await stream.send_all(unsent + _FAREWELL)
        raise


async def _wait_for_request(stream: trio.SocketStream) -> bool:
    """Wait for a line. Return False if the client ended the connection or sent too much."""
    received = 0
    while chunk := await stream.receive_some(_MAX_REQUEST_BYTES):
        received += len(chunk)
        if b"\n" in chunk:
            return True
        if received > _MAX_REQUEST_BYTES:
            return False
    return False


def _snapshot(buffers: Buffers) -> bytes:
    """Return the answer to one request."""
    answer = {
        "time": trio.current_time(),
        "buffers": {
            name: dataclasses.asdict(statistics)
            for name, statistics in buffers.statistics().items()
        },
    }
    return json.dumps(answer).encode() + b"\n"


@contextmanager
def _listening(path: str) -> Generator[trio.SocketListener, None, None]:
    """Listen at a path for the duration of the block, then remove the socket."""
    folder_path, name = os.path.split(path)
    with ExitStack() as stack:
        try:
            # By its folder the socket is removed, whatever becomes of the path to it.
            folder = stack.enter_context(opened_folder(folder_path or os.curdir))
            sock = stack.enter_context(_bound(path, name, folder))
            sock.listen()
        except FileExistsError:
            raise
        except OSError as error:
            # Python itself checks the length, and raises an OSError without errno and strerror.
            number = error.errno or errno.ENAMETOOLONG
            reason = error.strerror or f"{error}: pass a shorter path, or a relative one"
            raise OSError(number, reason, path) from error
        yield trio.SocketListener(trio.socket.from_stdlib_socket(sock))


@contextmanager
def _bound(path: str, name: str, folder: int) -> Generator[socket.socket, None, None]:
    """Bind a socket for the duration of the block, then close and remove it.

    Args:
        path: the path of the socket.
        name: its name in its folder.
        folder: a descriptor of the folder.
    """
    _remove_stale_socket(path, name, folder)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if sys.platform == "linux":  # pragma: no branch  # the tests run on Linux
            os.fchmod(sock.fileno(), _OWNER_ONLY)  # `bind` creates a file of this mode
        sock.bind(path)
        bound = os.stat(name, dir_fd=folder, follow_symlinks=False)
        try:
            if sys.platform != "linux":  # pragma: no cover  # the tests run on Linux
                # Before `listen`, so that at no time another user can connect.
                os.chmod(name, _OWNER_ONLY, dir_fd=folder, follow_symlinks=False)
            yield sock
        finally:
            # Another program may have replaced the socket.
            if is_same_file(name, bound, folder=folder):
                os.unlink(name, dir_fd=folder)
    finally:
        # Not by `with`, which would not go on with a `close` that Ctrl-C has cut short.
        sock.close()


def _remove_stale_socket(path: str, name: str, folder: int) -> None:
    """Remove a socket of this user that no program serves.

    Args:
        path: the path of the socket.
        name: its name in its folder.
        folder: a descriptor of the folder.

    Raises:
        FileExistsError: the path exists and is not such a socket.
    """
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISLNK(found.st_mode):
        raise FileExistsError(f"{path!r} exists and is a symbolic link: choose another path")
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(f"{path!r} exists and is not a socket: choose another path")
    problem = owner_problem(found, [os.geteuid()])
    if problem is not None:
        raise FileExistsError(f"{path!r} exists and {problem}: choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            if is_same_file(name, found, folder=folder):
                os.unlink(name, dir_fd=folder)
            return
        except BlockingIOError:  # a program serves it, and its backlog is full
            pass
        except OSError as error:  # it is a socket of another type
            raise FileExistsError(
                f"{path!r} exists and does not accept a connection ({error}): choose another path"
            ) from error
    raise FileExistsError(f"{path!r} is served by another program: choose another path")
