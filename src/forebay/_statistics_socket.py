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
from collections.abc import AsyncGenerator
from contextlib import suppress

import trio

from forebay._group import Buffers
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
    socket that a program left behind when it died is replaced; a socket that another program serves
    is not.

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
        FileExistsError: the path exists and is not a socket, or another program serves it.
        OSError: the socket cannot be created: the folder does not exist, permission is denied, or
            the path is too long.
    """
    name = os.fsdecode(path)
    # Only the removal uses this path: the system limits the length of a path to bind.
    absolute = os.path.join(os.getcwd(), name)  # noqa: PTH109, PTH118  # a str is enough
    listener = _listen(name)
    bound = os.stat(absolute)  # noqa: PTH116  # a str is enough
    errors: list[BaseException] = []
    ended = trio.Event()
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
    finally:
        listener.socket.close()
        with suppress(FileNotFoundError):
            # Another program may have replaced the socket.
            if os.path.samestat(bound, os.stat(absolute)):  # noqa: PTH116  # a str is enough
                os.unlink(absolute)  # noqa: PTH108  # a str is enough
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


def _listen(name: str) -> trio.SocketListener:
    _remove_stale_socket(name)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(name)
        # Before `listen`, so that at no time another user can connect.
        os.chmod(name, _OWNER_ONLY)  # noqa: PTH101  # a str is enough
        sock.listen()
    except OSError as error:
        sock.close()
        # Python itself checks the length, and raises an OSError without errno and strerror.
        number = error.errno or errno.ENAMETOOLONG
        reason = error.strerror or f"{error}: pass a shorter path, or a relative one"
        raise OSError(number, reason, name) from error
    return trio.SocketListener(trio.socket.from_stdlib_socket(sock))


def _remove_stale_socket(name: str) -> None:
    """Remove a socket that no program serves.

    Raises:
        FileExistsError: the path exists and is not such a socket.
    """
    try:
        found = os.stat(name)  # noqa: PTH116  # a str is enough
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(f"{name!r} exists and is not a socket: choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            os.unlink(name)  # noqa: PTH108  # a str is enough
            return
        except BlockingIOError:  # a program serves it, and its backlog is full
            pass
        except OSError as error:  # it belongs to another user, or is of another type
            raise FileExistsError(
                f"{name!r} exists and does not accept a connection ({error}): choose another path"
            ) from error
    raise FileExistsError(f"{name!r} is served by another program: choose another path")
