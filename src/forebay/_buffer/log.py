"""The log records of buffers and of their end. None contains a value of a row.

Records that could repeat with each flush have a limit per buffer, by Trio's clock.
docs/log.md lists all records of forebay.
"""

from __future__ import annotations

import functools
import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, ParamSpec

import trio

from forebay._errors import Unsettled, format_count
from forebay.stores import BatchError, Rejection

_logger = logging.getLogger(__name__)

_FIRST_PERIOD: Final = 1.0
"""The shortest time between two records of the same kind, in seconds."""

_REPEAT_PERIOD: Final = 60.0
"""The time between two records about the same flush that goes on failing, in seconds."""


P = ParamSpec("P")


def _never_raises(function: Callable[P, None]) -> Callable[P, None]:
    """Wrap a function so that an exception of a log handler does not stop a buffer."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        with suppress(Exception):  # handlers and filters are the program's: any error is possible
            function(*args, **kwargs)

    return call


class BufferLog:
    """Writes the log records of one buffer.

    Args:
        name: the name of the buffer's table.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._last_failure = -math.inf
        """When a failure was last logged, in seconds of Trio's clock."""
        self._retry_logged = False
        """Whether the retries of the current flush were logged."""
        self._suspended_at: float | None = None
        self._last_refusal = -math.inf
        self._refused = Counter[str]()
        """The refused entries that are not logged yet, by code."""
        self._first_letter = 0
        """The dead letter of the first of them."""

    @_never_raises
    def retrying(self, error: BatchError, *, attempts: int, delay: float) -> None:
        """Log that a flush is retried: once a flush, and then once a minute.

        Flushes that fail one after another log this once a second.
        """
        period = _REPEAT_PERIOD if self._retry_logged else _FIRST_PERIOD
        if self._is_due(period):
            self._retry_logged = True
            _logger.warning(
                "buffer %r: attempt %d to flush failed, the next one is in %.3g s: %s",
                self._name,
                attempts,
                delay,
                error.summary,
            )

    @_never_raises
    def suspended(self, error: BatchError, *, attempts: int, delay: float, pending: int) -> None:
        """Log that the buffer is suspended: when that begins, and then once a minute."""
        if self._suspended_at is None:
            self._suspended_at = self._last_failure = trio.current_time()
            _logger.error(
                "buffer %r is suspended after attempt %d, with %s pending; the next attempt is in "
                "%.3g s: %s",
                self._name,
                attempts,
                format_count(pending, "entry"),
                delay,
                error.summary,
            )
        elif self._is_due(_REPEAT_PERIOD):
            _logger.warning(
                "buffer %r is still suspended after attempt %d, with %s pending: %s",
                self._name,
                attempts,
                format_count(pending, "entry"),
                error.summary,
            )

    def _is_due(self, period: float) -> bool:
        now = trio.current_time()
        if now < self._last_failure + period:
            return False
        self._last_failure = now
        return True

    @_never_raises
    def flushed(self, *, attempts: int, duration: float) -> None:
        """Log that a flush whose failures were logged is committed."""
        if self._suspended_at is not None:
            _logger.info(
                "buffer %r is not suspended any more: attempt %d succeeded after %.3g s",
                self._name,
                attempts,
                trio.current_time() - self._suspended_at,
            )
        elif self._retry_logged:
            _logger.info(
                "buffer %r: the flush that was retried is committed, after %d attempts and %.3g s",
                self._name,
                attempts,
                duration,
            )
        self._suspended_at, self._retry_logged = None, False

    @property
    def holds_refusals(self) -> bool:
        """Whether entries were refused that are not logged yet."""
        return bool(self._refused)

    @_never_raises
    def refused(self, rejections: Sequence[Rejection]) -> None:
        """Log that the table refused entries: once a second, with those refused since."""
        if rejections and not self._refused:
            self._first_letter = rejections[0].dead_letter
        self._refused.update(rejection.code for rejection in rejections)
        if self._refused and trio.current_time() >= self._last_refusal + _FIRST_PERIOD:
            self._last_refusal = trio.current_time()
            self._log_refused()

    def _log_refused(self) -> None:
        _logger.warning(
            "buffer %r: the table refused %s (%s); the first dead letter has the id %d",
            self._name,
            format_count(self._refused.total(), "entry"),
            ", ".join(f"{code}: {count:,}" for code, count in self._refused.items()),
            self._first_letter,
        )
        self._refused.clear()

    @_never_raises
    def stopped(self, reason: str, *, attempts: int, unsettled: Unsettled) -> None:
        """Log that the buffer stopped because of a failure."""
        _logger.error(
            "buffer %r stopped after %s, and %s %s not settled: %s",
            self._name,
            format_count(attempts, "attempt"),
            format_count(unsettled.count, "accepted entry"),
            "is" if unsettled.count == 1 else "are",
            reason,
        )

    @_never_raises
    def gave_up(self, unsettled: Unsettled) -> None:
        """Log that the drain ended before all entries were settled."""
        last = unsettled.last_error
        _logger.warning(
            "buffer %r: the drain gave up, and %s %s not settled; the oldest was pending for "
            "%.3g s; last error: %s",
            self._name,
            format_count(unsettled.count, "accepted entry"),
            "is" if unsettled.count == 1 else "are",
            unsettled.oldest_age,
            last.summary if isinstance(last, BatchError) else None,
        )

    @_never_raises
    def ended(self) -> None:
        """Log what was held back."""
        if self._refused:
            self._log_refused()


@_never_raises
def log_spill(file: Path, entries: int) -> None:
    """Log that a spill was written.

    Args:
        file: the file.
        entries: the number of operations in it.
    """
    _logger.warning(
        "the spill %r was written, with %s; replay it with `forebay dead-letters replay DB "
        "--spill FILE`",
        str(file),
        format_count(entries, "operation"),
    )


@_never_raises
def log_lost_spill(path: Path, error: Exception) -> None:
    """Log that a spill could not be written.

    Args:
        path: the file that was asked for.
        error: why it could not be written. Only the text of an OSError has no values of rows.
    """
    _logger.error(
        "the spill %r could not be written; its entries are only in the error that leaves the "
        "open_buffers block: %s",
        str(path),
        error if isinstance(error, OSError) else type(error).__name__,
    )
