"""`CallBatcher`: many tasks share few calls, and each gets its result."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress

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


async def test_a_limit_of_two_lets_two_calls_run(autojump_clock: MockClock) -> None:
    """A third task waits, and makes the next call with those that wait behind it."""
    del autojump_clock
    lengths = Lengths()
    batcher = CallBatcher(lengths, limit=2)
    results: list[int] = []

    async def one(key: str) -> None:
        results.append(await batcher(key))

    async with trio.open_nursery() as nursery:
        for key in ("a", "bb", "ccc", "dddd"):
            nursery.start_soon(one, key)
            await wait_all_tasks_blocked()
        assert [["a"], ["bb"]] == lengths.calls
        lengths.gate.set()
    assert [1, 2, 3, 4] == sorted(results)
    assert ["ccc", "dddd"] == sorted(key for call in lengths.calls[2:] for key in call)
    lengths.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        for key in ("a", "bb"):
            nursery.start_soon(one, key)
        await wait_all_tasks_blocked()
        assert [["a"], ["bb"]] == sorted(lengths.calls[-2:])
        lengths.gate.set()


@pytest.mark.parametrize("limit", [1, 2])
async def test_every_result_is_returned_or_discarded(limit: int) -> None:
    """Tasks are cancelled at random moments; no result is lost, and none is used twice."""
    draw = random.Random(limit)
    made: list[int] = []
    used: list[int] = []

    async def call(keys: Sequence[int]) -> list[int]:
        for _ in range(draw.randrange(4)):
            await trio.lowlevel.checkpoint()
        if draw.random() < 0.2:
            raise LookupError
        with trio.CancelScope(shield=True):
            await trio.lowlevel.checkpoint()
        made.extend(keys)
        return list(keys)

    batcher = CallBatcher(call, limit=limit, discard=used.append)

    async def one(key: int) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_later, nursery.cancel_scope)
            with suppress(LookupError):
                used.append(await batcher(key))
            nursery.cancel_scope.cancel()

    async def cancel_later(scope: trio.CancelScope) -> None:
        for _ in range(draw.randrange(30)):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    async with trio.open_nursery() as nursery:
        for key in range(2_000):
            nursery.start_soon(one, key)
            if not draw.randrange(8):
                await trio.lowlevel.checkpoint()
    assert sorted(made) == sorted(used)
    assert len(made) > 100
