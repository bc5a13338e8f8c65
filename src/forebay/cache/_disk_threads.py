"""`DiskThreads`: calls of the file system, in threads; the short ones share a thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar, cast

import trio

from forebay.cache._call_batcher import CallBatcher

T = TypeVar("T")

_LONG: Final = 8
"""The maximum number of threads that make long calls at once."""

_SHORT: Final = 2
"""The maximum number of threads that make short calls at once. With more of them, each makes fewer
calls at a time, and the threads wait longer for Python's lock."""


@dataclass(frozen=True, slots=True)
class _Call(Generic[T]):
    run: Callable[[], T]
    discard: Callable[[T], object] | None


@dataclass(frozen=True, slots=True)
class _Outcome:
    value: Any
    error: BaseException | None
    discard: Callable[[Any], object] | None


class DiskThreads:
    """Runs blocking functions in threads. A function that has begun is run to its end."""

    def __init__(self) -> None:
        self._long = trio.CapacityLimiter(_LONG)
        self._short = trio.CapacityLimiter(_SHORT)  # so that they do not wait for long calls
        self._batcher: CallBatcher[_Call[Any], _Outcome] = CallBatcher(
            self._run_all, limit=_SHORT, discard=_discard
        )

    async def run(self, call: Callable[[], T]) -> T:
        """Call a function in a thread of its own, since it may take long.

        Cancelled, it waits for the end of the function if that has begun.
        """
        return await trio.to_thread.run_sync(call, limiter=self._long)

    async def run_short(
        self, call: Callable[[], T], discard: Callable[[T], object] | None = None
    ) -> T:
        """Call a function that takes some microseconds, in a thread that concurrent tasks share.

        Cancelled, it may or may not have called the function, and does not wait for its end.

        Args:
            call: the function.
            discard: called with the result if this was cancelled.
        """
        outcome = await self._batcher(_Call(call, discard))
        if outcome.error is not None:
            try:
                raise outcome.error
            finally:
                del outcome  # it refers to the error, and the error to this frame
        return cast("T", outcome.value)

    async def _run_all(self, calls: Sequence[_Call[Any]]) -> Sequence[_Outcome]:
        return await trio.to_thread.run_sync(
            lambda: [_capture(call) for call in calls], limiter=self._short
        )


def _capture(call: _Call[Any]) -> _Outcome:
    try:
        return _Outcome(call.run(), None, call.discard)
    except BaseException as error:  # noqa: BLE001  # raised again in the task that made the call
        return _Outcome(None, error, None)


def _discard(outcome: _Outcome) -> None:
    if outcome.discard is not None:
        outcome.discard(outcome.value)
