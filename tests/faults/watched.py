"""Observe the failed commits of a store."""

from __future__ import annotations

import math
from collections.abc import Callable

import trio

from forebay import SqliteStore
from forebay.stores import Attempt, Batch, BatchError, Outcome
from tests.wrapped_attempts import Commit, WrappedAttempt


def watch(store: SqliteStore, on_failure: Callable[[BatchError], object]) -> None:
    """Call a function with each failure of a commit, before the buffer gets it."""
    begin = store.begin

    async def watched(commit: Commit) -> Outcome:
        try:
            return await commit()
        except BatchError as error:
            on_failure(error)
            raise

    def begin_watched(batch: Batch) -> Attempt:
        return WrappedAttempt(begin(batch), watched)

    store.begin = begin_watched  # type: ignore[assignment,method-assign]


class Failures:
    """The failures of a store's commits. A test can wait for them."""

    def __init__(self, store: SqliteStore) -> None:
        send, self._receive = trio.open_memory_channel[BatchError](math.inf)
        watch(store, send.send_nowait)

    async def wait(self, times: int = 1) -> BatchError:
        """Wait for this number of further failures, and return the last one."""
        error = await self._receive.receive()
        for _ in range(times - 1):
            error = await self._receive.receive()
        return error
