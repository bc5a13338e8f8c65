"""`CallBatcher`: calls that are made while others run are combined into the next one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import trio

K = TypeVar("K")
V = TypeVar("V")


class _Request(Generic[K, V]):
    """A call of one task. Its task waits, unless it makes the call for several tasks."""

    __slots__ = ("abandoned", "key", "leads", "ready", "results")

    def __init__(self, key: K) -> None:
        self.key = key
        self.results: list[V] = []
        """Empty until the request is answered, then its one result."""
        self.ready = trio.Event()
        """Set when the request is answered, or its task makes the next call."""
        self.leads = False
        """Whether its task makes a call, or has to make one."""
        self.abandoned = False
        """Whether its task was cancelled while another task makes the call."""


class CallBatcher(Generic[K, V]):
    """Combines the calls of many tasks, so that they share one hop to a thread.

    A few calls run at a time. When one ends, the task that has waited longest makes the next call,
    for all tasks that wait at that moment. If a task is cancelled before its call begins, another
    task makes the call. A call that has begun runs to its end and serves all its tasks.
    """

    def __init__(
        self,
        call: Callable[[Sequence[K]], Awaitable[Sequence[V]]],
        *,
        limit: int = 1,
        discard: Callable[[V], object] = lambda _: None,
    ) -> None:
        """Wrap a function that handles many keys at once.

        Args:
            call: returns one result per key, in the order of the keys. If it raises, the
                exception reaches only the task that made the call, and the other tasks call
                again.
            limit: how many calls run at a time.
            discard: called with the result of a task that was cancelled.
        """
        self._call = call
        self._discard = discard
        self._free = limit
        """How many more calls may run."""
        self._waiting: dict[_Request[K, V], None] = {}

    async def __call__(self, key: K) -> V:
        """Return the result for one key."""
        request: _Request[K, V] = _Request(key)
        self._waiting[request] = None
        if self._free:
            self._free -= 1
            request.leads = True
        try:
            if not request.leads:
                await request.ready.wait()
            if request.leads:
                await self._call_for_all(request)
        except BaseException:
            if request.results:
                self._discard(request.results[0])
            elif request in self._waiting:
                del self._waiting[request]
            else:
                request.abandoned = True
            raise
        finally:
            if request.leads:
                self._pass_on()
        return request.results[0]

    def _pass_on(self) -> None:
        """Let the task that has waited longest make the next call."""
        for request in self._waiting:
            if not request.leads:
                request.leads = True
                request.ready.set()
                return
        self._free += 1

    async def _call_for_all(self, own: _Request[K, V]) -> None:
        # Another task may have to make a call too. It is not served here.
        others = {each: None for each in self._waiting if each.leads and each is not own}
        requests = {each: None for each in self._waiting if each not in others}
        self._waiting = others
        try:
            results = await self._call([request.key for request in requests])
        except BaseException:
            del requests[own]
            left = {request: None for request in requests if not request.abandoned}
            self._waiting = left | self._waiting
            raise
        for request, result in zip(requests, results, strict=True):
            if request.abandoned:
                self._discard(result)
            else:
                request.results.append(result)
                request.ready.set()
