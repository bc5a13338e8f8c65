"""`CallBatcher`: calls that are made while one runs are combined into the next one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import trio

K = TypeVar("K")
V = TypeVar("V")


class _Request(Generic[K, V]):
    __slots__ = ("key", "results")

    def __init__(self, key: K) -> None:
        self.key = key
        self.results: list[V] = []
        """Empty until the request is answered, then its one result."""


class CallBatcher(Generic[K, V]):
    """Combines the calls of many tasks, so that they share one hop to a thread.

    One call runs at a time. When it ends, the task that has waited longest makes the next call,
    for all tasks that wait at that moment. If a task is cancelled before its call begins, another
    task makes the call. A call that has begun runs to its end and serves all its tasks.
    """

    def __init__(self, call: Callable[[Sequence[K]], Awaitable[Sequence[V]]]) -> None:
        """Wrap a function that handles many keys at once.

        Args:
            call: returns one result per key, in the order of the keys. If it raises, the
                exception reaches only the task that made the call, and the other tasks call
                again.
        """
        self._call = call
        self._turn = trio.Lock()
        self._waiting: list[_Request[K, V]] = []

    async def __call__(self, key: K) -> V:
        """Return the result for one key."""
        request: _Request[K, V] = _Request(key)
        self._waiting.append(request)
        async with self._turn:
            if not request.results:
                await self._call_for_all(request)
        return request.results[0]

    async def _call_for_all(self, own: _Request[K, V]) -> None:
        requests, self._waiting = self._waiting, []
        try:
            results = await self._call([request.key for request in requests])
        except BaseException:
            self._waiting = [each for each in requests if each is not own] + self._waiting
            raise
        for request, result in zip(requests, results, strict=True):
            request.results.append(result)
