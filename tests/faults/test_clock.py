"""A jump of the wall clock has no effect: forebay uses the monotonic clock only."""

from __future__ import annotations

import itertools
import time

import pytest
import trio
from trio.testing import MockClock

from forebay import BufferOptions, open_buffers
from forebay.stores import FailureKind
from forebay.testing import MemoryStore
from tests.faults.tables import EVENTS, Event

YEAR = 365 * 24 * 3600.0


@pytest.mark.parametrize("jumps", [(YEAR,), (-YEAR,), (YEAR, -2 * YEAR)])
async def test_a_jump_of_the_wall_clock_changes_no_wait_and_no_age(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, jumps: tuple[float, ...]
) -> None:
    """The flush, its retries and the ages of entries are the same as without the jump."""
    del autojump_clock
    offsets = itertools.cycle(jumps)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + next(offsets))
    monkeypatch.setattr(time, "time_ns", lambda: int((now + next(offsets)) * 1e9))
    store = MemoryStore()
    store.fail_next(FailureKind.TRANSIENT, times=2)
    options = BufferOptions(flush_interval=10.0).override(
        {"retry": {"initial_delay": 1.0, "multiplier": 2.0, "jitter": 0.0}}
    )
    async with open_buffers(store, EVENTS, options=options) as buffers:
        start = trio.current_time()
        await buffers[EVENTS].enqueue(Event("a", 1))
        await trio.sleep(4)
        assert 4 == pytest.approx(buffers[EVENTS].statistics().oldest_age)
        assert 0 == store.attempts
        await trio.sleep(8)
        assert 12 == pytest.approx(trio.current_time() - start)
        assert 2 == store.attempts
        await trio.sleep(2)
        assert [("a", 1)] == store.rows(EVENTS)
