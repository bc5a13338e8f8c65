"""Many questions asked together: those that come while one call runs share the next."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import trio

K = TypeVar("K")
V = TypeVar("V")


class _Question(Generic[K, V]):
    __slots__ = ("answers", "key")

    def __init__(self, key: K) -> None:
        self.key = key
        self.answers: list[V] = []
        """The one answer, once there is one."""


class Together(Generic[K, V]):
    """Asks for many tasks at once, so that a hop to a thread is not paid by each of them.

    One call runs at a time. When it ends, the task that has waited longest asks for all that
    wait by then. A task that is cancelled leaves its question to the others, unless its call
    has begun: that one runs to its end, and answers them.
    """

    def __init__(self, ask: Callable[[Sequence[K]], Awaitable[Sequence[V]]]) -> None:
        """Name the call.

        Args:
            ask: gives an answer for each key, in order. What it raises, the task gets whose turn
                it is; the others ask again.
        """
        self._ask = ask
        self._turn = trio.Lock()
        self._waiting: list[_Question[K, V]] = []

    async def __call__(self, key: K) -> V:
        """Give the answer for one key."""
        question: _Question[K, V] = _Question(key)
        self._waiting.append(question)
        async with self._turn:
            if not question.answers:
                await self._answer_all(question)
        return question.answers[0]

    async def _answer_all(self, own: _Question[K, V]) -> None:
        questions, self._waiting = self._waiting, []
        try:
            answers = await self._ask([question.key for question in questions])
        except BaseException:
            self._waiting = [q for q in questions if q is not own] + self._waiting
            raise
        for question, answer in zip(questions, answers, strict=True):
            question.answers.append(answer)
