"""Shared by the tests of `forebay top`: statistics, a path, a server with scripted answers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from forebay import BufferStatistics

IDLE: dict[str, Any] = {
    **{field.name: 0 for field in dataclasses.fields(BufferStatistics)},
    "last_error": None,
    "suspended": False,
}
"""The statistics of a buffer that has accepted nothing, as the server sends them."""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A relative path: the system limits the length of a socket's name."""
    monkeypatch.chdir(tmp_path)
    return "statistics.sock"


@asynccontextmanager
async def server(
    path: str, serve: Callable[[trio.SocketStream], Awaitable[None]]
) -> AsyncIterator[None]:
    """Serve each connection to the path with a function."""
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(path)
    sock.listen()

    async def run(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            await serve(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, run, [trio.SocketListener(sock)])
        yield
        nursery.cancel_scope.cancel()


def answer(time: float = 1.0, **changes: Any) -> bytes:
    """Return the answer of a program with one buffer."""
    decoded = {"time": time, "buffers": {"pairs": {**IDLE, **changes}}}
    return json.dumps(decoded).encode() + b"\n"
