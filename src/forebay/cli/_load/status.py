"""Show how far a load has got, or what it waits for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import trio

import forebay
from forebay.cli._load.progress import Display, LoadState
from forebay.cli._load.rejects import RejectedRows

_SOON = 1.0
"""Seconds after which the display shows what the load waits for."""


class Status:
    """What a load does now.

    Args:
        display: shows it.
        rejected: counts the rows that are not loaded.

    Attributes:
        buffer: the buffer, from the time when it is open.
        position: the number of bytes of all inputs whose rows were accepted.
    """

    def __init__(self, display: Display, rejected: RejectedRows) -> None:
        self.buffer: forebay.Buffer[tuple[Any, ...]] | None = None
        self.position = 0
        self._begun = trio.current_time()
        self._display = display
        self._rejected = rejected
        self._waits_for: Callable[[], str] | None = None
        self._waits_since = math.inf

    @property
    def seconds(self) -> float:
        """The time since the load began."""
        return trio.current_time() - self._begun

    def wait_for(self, message: Callable[[], str] | None) -> None:
        """Show this message if the display has nothing else to show soon."""
        self._waits_for, self._waits_since = message, trio.current_time()

    async def show(self) -> None:
        """Show it, until cancelled."""
        while True:
            if self.buffer is not None:
                self._display.show(self._state(self.buffer))
            elif self._waits_for and trio.current_time() > self._waits_since + _SOON:
                self._display.warn(self._waits_for())
                self._waits_for = None
            await trio.sleep(self._display.interval)

    def _state(self, buffer: forebay.Buffer[tuple[Any, ...]]) -> LoadState:
        statistics = buffer.statistics()
        return LoadState(
            read=statistics.accepted + self._rejected.count,
            pending=statistics.pending,
            position=self.position,
            seconds=self.seconds,
            last_error=statistics.last_error,
        )
