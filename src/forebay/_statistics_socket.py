"""`serve_statistics`: the statistics of a running program, over a Unix socket of its owner's.

A client sends a line, whatever it says, and gets a line of JSON: an object with the buffers by
name, each with the fields of `BufferStatistics`, and the time of the program's clock. So the
client sets the pace, and one that does not read is sent nothing more. The last line is `null`: a
connection that ends without it is that of a program that was killed.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import socket
import stat
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import trio

from forebay._group import Buffers

_LONGEST_REQUEST = 1024
"""Bytes that a client may send without a line ending."""

_FAREWELL = b"null\n"
_FAREWELL_TIMEOUT = 0.5
"""Seconds for which leaving the block may wait for a client that does not read."""

_OWNER_ONLY = 0o600

_SHORTEN = "choose a shorter one, or one from the working directory on"


@asynccontextmanager
async def serve_statistics(
    path: str | os.PathLike[str], buffers: Buffers
) -> AsyncGenerator[None, None]:
    """Let `forebay top PATH` watch the buffers, for the time of an `async with` block.

    The socket is for the owner of the process only, and no network port is opened. One that a
    program left behind when it died is replaced; one that somebody serves is not. Leaving the
    block, in whatever way, says farewell to the clients, ends the connections and removes the
    socket. That may take half a second, where a client does not read.

    Inside `open_buffers` the block ends before the drain begins. To watch that as well, serve
    from a task of a nursery outside of the buffers, which is cancelled when they have ended::

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
        path: where the socket is to be: a name of some 100 bytes at most, as the system asks.
        buffers: what `open_buffers` gave.

    Raises:
        FileExistsError: something else is at the path, or another program serves it.
        OSError: the socket cannot be there: no such folder, no permission, too long a name.
    """
    name = os.fsdecode(path)
    # The system bounds the length of the name that is bound, so that one stays as it is given.
    place = os.path.join(os.getcwd(), name)  # noqa: PTH109, PTH118  # asks no disk
    listener = _listen(name)
    mine = os.stat(place)  # noqa: PTH116  # one short call, as all of them here
    raised: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:

            async def answer(stream: trio.SocketStream) -> None:
                # The other end may go at any time, and that is its own affair.
                with suppress(trio.BrokenResourceError, ConnectionError):
                    await _answer(stream, buffers)

            nursery.start_soon(trio.serve_listeners, answer, [listener])
            try:
                yield
            except BaseException as error:  # noqa: BLE001  # raised again below, in no group
                raised = error
            nursery.cancel_scope.cancel()
    finally:
        listener.socket.close()
        with suppress(FileNotFoundError):
            if os.path.samestat(mine, os.stat(place)):  # noqa: PTH116
                os.unlink(place)  # noqa: PTH108
    if raised is not None:
        raise raised


async def _answer(stream: trio.SocketStream, buffers: Buffers) -> None:
    unsent = b""
    try:
        while await _asked(stream):
            unsent = _snapshot(buffers)
            while unsent:
                unsent = unsent[await stream.socket.send(unsent) :]
    except trio.Cancelled:  # the block is left
        with trio.move_on_after(_FAREWELL_TIMEOUT, shield=True):
            await stream.send_all(unsent + _FAREWELL)
        raise


async def _asked(stream: trio.SocketStream) -> bool:
    """Wait for the end of a line; False where none will come."""
    received = 0
    while chunk := await stream.receive_some(_LONGEST_REQUEST):
        received += len(chunk)
        if b"\n" in chunk:
            return True
        if received > _LONGEST_REQUEST:
            return False
    return False


def _snapshot(buffers: Buffers) -> bytes:
    told = {
        "time": trio.current_time(),
        "buffers": {
            name: dataclasses.asdict(statistics)
            for name, statistics in buffers.statistics().items()
        },
    }
    return json.dumps(told).encode() + b"\n"


def _listen(name: str) -> trio.SocketListener:
    _remove_dead(name)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(name)
        # Nobody can connect before it listens, so there is no moment at which others may.
        os.chmod(name, _OWNER_ONLY)  # noqa: PTH101
        sock.listen()
    except OSError as error:
        sock.close()
        # The length of a name is checked by Python, which gives no number; and nobody the name.
        number, why = error.errno or errno.ENAMETOOLONG, error.strerror or f"{error}: {_SHORTEN}"
        raise OSError(number, why, name) from error
    return trio.SocketListener(trio.socket.from_stdlib_socket(sock))


def _remove_dead(name: str) -> None:
    """Remove a socket that nobody serves any more."""
    try:
        found = os.stat(name)  # noqa: PTH116
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(f"{name!r} is there and is no socket: choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            os.unlink(name)  # noqa: PTH108
            return
        except BlockingIOError:  # it listens, and has no room just now
            pass
        except OSError as error:  # another user's, or of another kind
            raise FileExistsError(
                f"{name!r} is there and cannot be used, {error}: choose another path"
            ) from error
    raise FileExistsError(f"{name!r} is served by another program: choose another path")
