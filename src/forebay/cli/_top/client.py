"""The client of a program's statistics socket: here `forebay top` gets its figures.

The server is `forebay.serve_statistics`, in `forebay/_statistics_socket.py`. It answers each line
that it receives with one line of JSON: the result of `Buffers.statistics()` and the time.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import trio

from forebay.cli._top.columns import COLUMNS

_ANSWER_TIMEOUT = 10.0
"""Seconds to wait for an answer. A program whose event loop runs answers at once."""

_MAX_ANSWER_BYTES = 2**22
"""The size of an answer with about ten thousand buffers."""


class NotWatchableError(Exception):
    """There is no program to watch at the path, or it does not answer as expected."""


class ConnectionLostError(Exception):
    """The connection ended without the server's farewell."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The statistics of a program's buffers at one time.

    Attributes:
        time: the time of the program's clock, in seconds.
        buffers: the fields of each buffer's `BufferStatistics`, by the buffer's name.
    """

    time: float
    buffers: Mapping[str, Mapping[str, Any]]


async def snapshots(path: str, interval: float) -> AsyncGenerator[Snapshot, None]:
    """Ask the program at a path for its statistics, again and again.

    The generator ends when the program has closed its buffers. If it is cancelled, it closes the
    connection.

    Args:
        path: the socket that the program passed to `forebay.serve_statistics`.
        interval: the pause between an answer and the next request, in seconds.

    Yields:
        A snapshot for each answer.

    Raises:
        NotWatchableError: the connection failed, an answer is invalid or did not come in time, or
            the connection ended before the first answer.
        ConnectionLostError: the connection ended after the first answer, without a farewell.
    """
    try:
        stream = await trio.open_unix_socket(path)
    except (OSError, RuntimeError) as error:
        raise NotWatchableError(
            f"cannot connect to {path!r}: {error}; pass the path that the program gave to "
            f"forebay.serve_statistics"
        ) from error
    async with stream:
        lines = _Lines(stream)
        first = None
        with suppress(ConnectionLostError):
            first = await _ask(stream, lines, path)
        if first is None:
            raise NotWatchableError(
                f"the program at {path!r} ended, or closed the connection, before it answered"
            )
        yield first
        await trio.sleep(interval)
        while (snapshot := await _ask(stream, lines, path)) is not None:
            yield snapshot
            await trio.sleep(interval)


async def _ask(stream: trio.SocketStream, lines: _Lines, path: str) -> Snapshot | None:
    """Request a snapshot and return it. Return None if the answer is the farewell."""
    try:
        with trio.fail_after(_ANSWER_TIMEOUT):
            # The server may have closed the connection: its farewell can still be received.
            with suppress(trio.BrokenResourceError):
                await stream.send_all(b"\n")
            return _snapshot(await lines.next())
    except trio.TooSlowError:
        raise NotWatchableError(
            f"the program at {path!r} has not answered for {_ANSWER_TIMEOUT:g} s: its event loop "
            f"is blocked"
        ) from None
    except (
        *(ValueError, TypeError, KeyError, AttributeError),
        *(OverflowError, RecursionError),
    ) as error:
        raise NotWatchableError(
            f"invalid answer from {path!r}: expected a program that serves statistics with this "
            f"version of forebay; run the forebay command from that program's environment"
        ) from error


class _Lines:
    """Splits the bytes that a stream receives into lines."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._received = b""

    async def next(self) -> bytes:
        """Wait for the next line and return it.

        Raises:
            ValueError: the line is longer than any answer of the server.
            ConnectionLostError: the stream ended before the line did.
        """
        while b"\n" not in self._received:
            if len(self._received) > _MAX_ANSWER_BYTES:
                raise ValueError(f"more than {_MAX_ANSWER_BYTES} bytes without a line ending")
            chunk = b""
            with suppress(trio.BrokenResourceError):
                chunk = await self._stream.receive_some()
            if not chunk:
                raise ConnectionLostError
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        return line


def _snapshot(answer: bytes) -> Snapshot | None:
    """Decode an answer, and check each value that the view needs.

    Raises:
        ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError: the answer
            is not a snapshot.
    """
    decoded = json.loads(answer)
    if decoded is None:
        return None
    snapshot = Snapshot(float(decoded["time"]), decoded["buffers"])
    for statistics in snapshot.buffers.values():
        for column in COLUMNS:
            if not math.isfinite(column.figure(statistics, statistics, 1.0)):
                raise ValueError(f"{column.heading} is not finite")
        if not isinstance(statistics["last_error"], str | None):
            raise TypeError("last_error is not a string")
        # A program with an older version of forebay does not send these two.
        spooled = statistics.get("spool_entries", 0), statistics.get("spool_oldest_age", 0.0)
        if not all(math.isfinite(value) for value in spooled):
            raise ValueError("the figures of the spool are not finite")
        if not isinstance(statistics["suspended"], bool):
            raise TypeError("suspended is not a bool")
    return snapshot
