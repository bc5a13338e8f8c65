"""`CallBatcher`: many tasks share few calls, and each gets its result."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from forebay.cache._call_batcher import CallBatcher


class Lengths:
    """Returns the lengths of the keys, once `gate` is set."""

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


async def test_calls_that_are_made_while_one_runs_share_the_next_one() -> None:
    """A hundred tasks make two calls, and each task gets the result for its key."""
    lengths = Lengths()
    batcher = CallBatcher(lengths)
    results: dict[int, int] = {}

    async def one(length: int) -> None:
        results[length] = await batcher("x" * length)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, 0)
        await wait_all_tasks_blocked()
        for length in range(1, 100):
            nursery.start_soon(one, length)
        await wait_all_tasks_blocked()
        lengths.gate.set()
    assert {length: length for length in range(100)} == results
    assert [1, 99] == [len(call) for call in lengths.calls]


@pytest.mark.parametrize("who", ["first", "second", "third"])
async def test_a_cancelled_task_does_not_affect_the_results_of_others(
    autojump_clock: MockClock, who: str
) -> None:
    """The cancelled task may be the one that calls, the one that calls next, or another one."""
    del autojump_clock
    lengths = Lengths()
    batcher = CallBatcher(lengths)
    results: dict[str, int] = {}

    async def one(key: str) -> None:
        with trio.move_on_after(1 if key == who else 10):
            results[key] = await batcher(key)

    async with trio.open_nursery() as nursery:
        for key in ("first", "second", "third"):
            nursery.start_soon(one, key)
            await wait_all_tasks_blocked()
        await trio.sleep(2)
        lengths.gate.set()
    assert {key: len(key) for key in ("first", "second", "third") if key != who} == results
    assert 5 == await batcher("again")
    assert ["again"] == lengths.calls[-1]


async def test_an_error_reaches_the_caller_and_the_others_call_again() -> None:
    """The key of the task that made the call is not part of the next one."""
    lengths = Lengths()
    lengths.errors[2] = LookupError()
    batcher = CallBatcher(lengths)
    results: dict[str, int] = {}

    async def one(key: str) -> None:
        try:
            results[key] = await batcher(key)
        except LookupError:
            results[key] = -1

    async with trio.open_nursery() as nursery:
        for key in ("a", "bb", "ccc", "dddd"):
            nursery.start_soon(one, key)
            await wait_all_tasks_blocked()
        lengths.gate.set()
    assert {"a": 1, "bb": -1, "ccc": 3, "dddd": 4} == results
    assert 5 == await batcher("again")
    assert [["a"], ["bb", "ccc", "dddd"], ["ccc", "dddd"], ["again"]] == lengths.calls


async def test_calls_one_after_another_are_not_combined() -> None:
    """Each task calls with its own key alone."""
    lengths = Lengths()
    lengths.gate.set()
    batcher = CallBatcher(lengths)
    assert [1, 2] == [await batcher(key) for key in ("a", "bb")]
    assert [["a"], ["bb"]] == lengths.calls
