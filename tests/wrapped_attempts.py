"""Stores for tests that run code of the test around each commit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

from forebay.stores import Attempt, Batch, Outcome
from forebay.testing import MemoryStore

Commit: TypeAlias = Callable[[], Awaitable[Outcome]]


class WrappedAttempt:
    """An attempt whose commits go through a function, which calls the real commit."""

    def __init__(self, attempt: Attempt, around: Callable[[Commit], Awaitable[Outcome]]) -> None:
        self._attempt = attempt
        self._around = around

    async def commit(self, *, rejection_limit: float) -> Outcome:
        return await self._around(partial(self._attempt.commit, rejection_limit=rejection_limit))


class WrappedMemoryStore(MemoryStore):
    """A memory store whose commits go through `around_commit`, which a test overrides."""

    def begin(self, batch: Batch) -> Attempt:
        return WrappedAttempt(super().begin(batch), partial(self.around_commit, batch))

    async def around_commit(self, batch: Batch, commit: Commit) -> Outcome:
        return await commit()
