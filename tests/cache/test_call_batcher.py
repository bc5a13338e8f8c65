"""`Together`: many tasks, few calls, and nobody left without an answer."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from forebay.cache._call_batcher import CallBatcher


class Ask:
    """Answers with the keys' lengths, when it is let."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.gate = trio.Event()
        self.errors: dict[int, Exception] = {}

    async def __call__(self, keys: Sequence[str]) -> list[int]:
        self.calls.append(list(keys))
        await self.gate.wait()
        if (error := self.errors.get(len(self.calls))) is not None:
            raise error
        return [len(key) for key in keys]


async def test_questions_that_come_while_one_call_runs_share_the_next() -> None:
    """A hundred tasks are two calls; each has the answer to its own question."""
    ask = Ask()
    together = CallBatcher(ask)
    answers: dict[int, int] = {}

    async def one(length: int) -> None:
        answers[length] = await together("x" * length)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, 0)
        await wait_all_tasks_blocked()
        for length in range(1, 100):
            nursery.start_soon(one, length)
        await wait_all_tasks_blocked()
        ask.gate.set()
    assert {length: length for length in range(100)} == answers
    assert [1, 99] == [len(call) for call in ask.calls]


@pytest.mark.parametrize("who", ["first", "second", "third"])
async def test_a_task_that_is_cancelled_does_not_take_the_others_answers_with_it(
    autojump_clock: MockClock, who: str
) -> None:
    """Whether it asks for all, waits for its turn, or merely waits: the others are answered."""
    del autojump_clock
    ask = Ask()
    together = CallBatcher(ask)
    answers: dict[str, int] = {}

    async def one(key: str) -> None:
        with trio.move_on_after(1 if key == who else 10):
            answers[key] = await together(key)

    async with trio.open_nursery() as nursery:
        for key in ("first", "second", "third"):
            nursery.start_soon(one, key)
            await wait_all_tasks_blocked()
        await trio.sleep(2)
        ask.gate.set()
    assert {key: len(key) for key in ("first", "second", "third") if key != who} == answers
    assert 5 == await together("again")
    assert [] == together._waiting


async def test_an_error_is_the_callers_and_the_others_ask_again() -> None:
    """The task whose turn it is gets it; its question is not asked again."""
    ask = Ask()
    ask.errors[2] = LookupError()
    together = CallBatcher(ask)
    answers: dict[str, int] = {}

    async def one(key: str) -> None:
        try:
            answers[key] = await together(key)
        except LookupError:
            answers[key] = -1

    async with trio.open_nursery() as nursery:
        for key in ("a", "bb", "ccc", "dddd"):
            nursery.start_soon(one, key)
            await wait_all_tasks_blocked()
        ask.gate.set()
    assert {"a": 1, "bb": -1, "ccc": 3, "dddd": 4} == answers
    assert [["a"], ["bb", "ccc", "dddd"], ["ccc", "dddd"]] == ask.calls
    assert [] == together._waiting


async def test_without_company_a_question_is_a_call() -> None:
    """One after another, each is asked alone."""
    ask = Ask()
    ask.gate.set()
    together = CallBatcher(ask)
    assert [1, 2] == [await together(key) for key in ("a", "bb")]
    assert [["a"], ["bb"]] == ask.calls
