"""After kill -9, each transaction is whole or absent, and acknowledged rows are in the file."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path

import pytest
import trio

from forebay import open_buffers, open_sqlite
from tests.faults.harness import Fault, Zygote, read
from tests.faults.tables import ENTRIES, PATIENT, TABLES, Entry

ROUNDS = 2


def check(path: Path, lines: Sequence[str], rounds: range) -> None:
    """Compare the file with the acknowledgements that a killed `writer.py` printed."""
    acknowledged = [line.split() for line in lines]
    flushed = {int(i) for word, *rest in acknowledged if word == "flushed" for i in rest}
    written = {int(i) for word, *rest in acknowledged if word == "written" for i in rest}
    groups = dict(read(path, "SELECT grp, count(*) FROM entries WHERE grp >= 0 GROUP BY grp"))
    events = dict(read(path, "SELECT number, count(*) FROM events GROUP BY number"))
    singles = {i for (i,) in read(path, "SELECT value FROM entries WHERE grp = -1")}
    [total] = [n for (n,) in read(path, "SELECT n FROM totals")] or [0]
    assert {7} >= set(groups.values()), "a transaction is in the file in part"
    assert {3} >= set(events.values()), "a transaction is in the file in part, or twice"
    assert set(rounds) >= groups.keys() | events.keys() | singles, "rows came from nowhere"
    assert flushed <= groups.keys(), "entries were acknowledged and are not there"
    assert flushed <= events.keys(), "events were acknowledged and are not there"
    assert written <= singles, "a write was acknowledged and is not there"
    assert len(flushed) <= total <= len(rounds)
    assert [("ok",)] == (read(path, "PRAGMA integrity_check") or [("ok",)])


def sweep(
    zygote: Zygote, folder: Path, call: str, *arguments: object, after: str | None = None
) -> int:
    """Kill `writer.py` at each of its calls of a system call in turn; return their number."""
    for n in count(1):
        path = folder / f"{n}.db"
        fault = Fault(path, call, "signal=KILL", str(n))
        with zygote.run("writer.py", path, *arguments, faults=[fault], after=after) as child:
            lines = child.lines()
            status = child.wait()
        check(path, lines, range(ROUNDS))
        if status == 0:
            assert "drained" == lines[-1]
            return n - 1
        assert -9 == status
        trio.run(write_again, path)
        check(path, [*lines, f"written {ROUNDS}"], range(ROUNDS + 1))
    raise AssertionError


async def write_again(path: Path) -> None:
    """Open the file and write to it, as the next program would."""
    async with (
        open_sqlite(path, create=TABLES) as store,
        open_buffers(store, *TABLES, options=PATIENT) as buffers,
    ):
        await buffers[ENTRIES].write(Entry("again", -1, ROUNDS))


@pytest.mark.strace
@pytest.mark.parametrize(
    ("call", "synchronous", "least"),
    [("pwrite64", "NORMAL", 40), ("fdatasync", "FULL", 10), ("unlink", "NORMAL", 1)],
)
def test_acknowledged_rows_survive_a_kill_at_any_system_call(
    zygote: Zygote, fast_disk: Path, call: str, synchronous: str, least: int
) -> None:
    """At the n-th write, sync or unlink, for every n; the file stays intact."""
    kills = sweep(zygote, fast_disk, call, 0, ROUNDS, synchronous, 4, "pause", after="open")
    assert least <= kills


@pytest.mark.strace
@pytest.mark.parametrize(("call", "least"), [("pwrite64", 10), ("fdatasync", 3)])
def test_a_file_opens_after_a_kill_while_it_was_created(
    zygote: Zygote, fast_disk: Path, call: str, least: int
) -> None:
    """At the n-th call that creates the file and its tables, for every n."""
    kills = sweep(zygote, fast_disk, call, 0, 0)
    assert least <= kills
