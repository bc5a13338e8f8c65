"""The client of `forebay top`, with servers that do not answer as expected."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from forebay.cli._top.client import ConnectionLostError, NotWatchableError, snapshots
from tests.cli.top.conftest import answer, server


async def received(path: str) -> list[float]:
    """Return the times of all snapshots from the path."""
    with trio.fail_after(60):
        async with aclosing(snapshots(path, 0.001)) as found:
            return [snapshot.time async for snapshot in found]


@pytest.mark.parametrize("name", ["missing.sock", "a file"])
async def test_a_path_without_a_server_is_an_error(name: str, path: str) -> None:
    """The error has the path and the system's reason."""
    Path("a file").write_text("")
    with pytest.raises(NotWatchableError, match=f"cannot connect to '{name}': .Errno"):
        await received(name)


@pytest.mark.parametrize(
    "answered",
    [
        b"220 ready\n",
        b"[]\n",
        b'{"time": 1.0, "buffers": []}\n',
        b'{"time": 1.0, "buffers": {"pairs": {"pending": 1}}}\n',
        b'{"time": 1.0, "buffers": ' + b"[" * 100_000 + b"\n",
        answer(pending=10**400),
        answer(pending=float("nan")),
        answer(spool_entries=float("nan")),
        answer(last_error=1),
        answer(suspended=None),
    ],
)
async def test_an_invalid_answer_is_an_error(answered: bytes, path: str) -> None:
    """The server may be another program, or use another version of forebay."""

    async def serve(stream: trio.SocketStream) -> None:
        while await stream.receive_some():
            await stream.send_all(answered)

    async with server(path, serve):
        with pytest.raises(NotWatchableError, match=f"invalid answer from {path!r}"):
            await received(path)


async def test_an_endless_answer_is_an_error(path: str) -> None:
    """The client reads a limited number of bytes."""

    async def serve(stream: trio.SocketStream) -> None:
        while True:
            await stream.send_all(b"x" * 100_000)

    async with server(path, serve):
        with pytest.raises(NotWatchableError, match=f"invalid answer from {path!r}"):
            await received(path)


async def test_a_server_that_does_not_answer_is_an_error(
    path: str, autojump_clock: MockClock
) -> None:
    """The client waits for 10 s."""

    async def serve(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with server(path, serve):
        with pytest.raises(NotWatchableError, match="has not answered for 10 s"):
            await received(path)


@pytest.mark.parametrize("sent", [b"", b"null\n", b'{"time": 1.0, "buf'])
async def test_an_end_before_the_first_answer_is_an_error(sent: bytes, path: str) -> None:
    """The server says farewell, or closes the connection at once or within an answer."""

    async def serve(stream: trio.SocketStream) -> None:
        if sent:
            await stream.receive_some()
            await stream.send_all(sent)

    async with server(path, serve):
        with pytest.raises(NotWatchableError, match="before it answered"):
            await received(path)


async def test_a_connection_that_ends_without_a_farewell_is_lost(path: str) -> None:
    """The program may have been killed."""

    async def serve(stream: trio.SocketStream) -> None:
        for time in (1.0, 2.0):
            await stream.receive_some()
            await stream.send_all(answer(time=time))

    async with server(path, serve):
        with pytest.raises(ConnectionLostError):
            await received(path)


@pytest.mark.parametrize("in_one_piece", [True, False])
async def test_a_farewell_ends_the_snapshots(in_one_piece: bool, path: str) -> None:
    """It is received with the last answer, or after it on a connection that is closed already."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(answer(time=1.0))
        await stream.receive_some()
        await stream.send_all(answer(time=2.0) + b"null\n" * in_one_piece)
        if not in_one_piece:
            await stream.send_all(b"null\n")

    async with server(path, serve):
        assert [1.0, 2.0] == await received(path)
