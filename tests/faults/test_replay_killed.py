"""A replay is killed at any instant: each entry is in its table or a dead letter, exactly once."""

from __future__ import annotations

import shutil
from collections import Counter
from itertools import count
from pathlib import Path

import pytest

from forebay import Write, dead_letters, open_sqlite
from forebay._spill.writing import write_spill
from tests.faults.harness import Fault, Zygote, read
from tests.faults.tables import EVENTS, TABLES, TOTALS, Event, Total

NUMBERS = range(5)
REFUSED = 3
"""The number that the table still refuses."""


async def prepare(path: Path, *, imported: bool) -> tuple[Path, Path]:
    """Make a database and a spill, which is imported into it or not; return both paths."""
    spill = write_spill(
        path.with_suffix(".spill"),
        {
            EVENTS: [Write(tuple(Event("replay", i))) for i in NUMBERS],
            TOTALS: [Write(tuple(Total("all", 1))) for _ in NUMBERS],
        },
    )
    async with open_sqlite(path, create=TABLES) as store:
        await store.run(
            lambda raw: raw.execute(
                "CREATE TRIGGER refuses BEFORE INSERT ON events WHEN NEW.number = "
                f"{REFUSED} BEGIN SELECT RAISE(ABORT, 'refused'); END"
            ).close()
        )
        if imported:
            await dead_letters.import_spill(store, spill)
    return path, spill


def check(path: Path, *, all_in: bool) -> int:
    """Check that no entry is lost or repeated; return how many are in the tables."""
    assert [("ok",)] == read(path, "PRAGMA integrity_check")
    events = Counter(number for (number,) in read(path, "SELECT number FROM events"))
    letters = Counter(
        number
        for (number,) in read(
            path,
            "SELECT entry ->> '$.write.number' FROM forebay_dead_letters WHERE buffer = 'events'",
        )
    )
    [total] = [n for (n,) in read(path, "SELECT n FROM totals")] or [0]
    [(waiting,)] = read(
        path, "SELECT count(*) FROM forebay_dead_letters WHERE buffer = 'totals'"
    ) or [(0,)]
    there = events + letters
    assert {1} >= set(there.values()), "an entry was committed twice"
    if all_in or there or total or waiting:
        assert set(NUMBERS) == there.keys(), "an entry was lost"
        assert len(NUMBERS) == total + waiting, "an entry was lost, or committed twice"
    assert events[REFUSED] == 0
    return int(events.total() + total)


@pytest.mark.strace
@pytest.mark.parametrize("imported", [True, False])
async def test_a_replay_that_was_killed_can_be_started_again(
    zygote: Zygote, fast_disk: Path, imported: bool
) -> None:
    """At the n-th write, for every n; the spill is imported before the replay or by it."""
    template, spill = await prepare(fast_disk / "template.db", imported=imported)
    spills = [] if imported else [spill]
    partly = 0
    for n in count(1):
        path = fast_disk / f"{n}.db"
        shutil.copy(template, path)
        fault = Fault(path, "pwrite64", "signal=KILL", str(n))
        with zygote.run("replaying.py", path, *spills, faults=[fault], after="open") as child:
            lines, status = child.lines(), child.wait()
        done = check(path, all_in=imported)
        partly += 0 < done < 2 * len(NUMBERS) - 1
        if status == 0:
            assert [f"ended {2 * len(NUMBERS) - 1} 1"] == lines
            break
        assert -9 == status
        async with open_sqlite(path) as store:
            for left in spills:
                await dead_letters.import_spill(store, left)
            result = await dead_letters.replay(store)
        assert 1 == len(result.refused)
        assert 2 * len(NUMBERS) - 1 == check(path, all_in=True)
    assert n > 20
    assert partly > 5
