"""Run a case: contestants take turns, and the rows that they wrote are checked.

The turns go A B C A B C …, after a round of warm-up, so that a machine that becomes slower becomes
slower for all. Each turn has a new database file. If a row is missing from it afterwards, the run
ends with an error. Figures are compared by their ratio within one round.
"""

from __future__ import annotations

import gc
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

from benchmarks.results import CaseResult, Measure

MEMORY = Path("/dev/shm")  # noqa: S108  # each turn makes a folder with a random name in it
"""The folder of cases that are measured in memory. Not each system has it."""
DISK = Path(".bench")
"""The folder of cases that are measured on a disk."""


@dataclass(frozen=True)
class Contestant:
    """One way to do the work of a case.

    Attributes:
        name: its name in tables, in plots and on the command line.
        run: does the work in the database at a path, and returns what it measured, by the names
            of the case's measures.
        check: raises `AssertionError` if the database at a path is not what the work should have
            left.
        prepare: creates the database before the work; not measured.
    """

    name: str
    run: Callable[[Path], Mapping[str, float]]
    check: Callable[[Path], None]
    prepare: Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """One set of parameters of a question.

    Attributes:
        question: the name of the question, which is that of its module.
        name: the parameters in words.
        measures: what each contestant measures.
        contestants: who takes turns.
        reference: the contestant that each other one is compared with; None to compare the first
            one with each other one.
        folder: where the database files are created; None for the folder of the command line.
        rounds: how many turns of each contestant count.
        warm_ups: how many turns each contestant has before that, which do not count.
    """

    question: str
    name: str
    measures: Sequence[Measure]
    contestants: Sequence[Contestant]
    reference: str | None = None
    folder: Path | None = None
    rounds: int = 5
    warm_ups: int = 1


def run(case: Case, folder: Path, on_turn: Callable[[str], None]) -> CaseResult:
    """Run a case.

    Args:
        case: the case.
        folder: where the database files are created, if the case does not say.
        on_turn: called before each turn, with a text that says what runs next.

    Raises:
        AssertionError: a contestant did not leave the rows that it should have left.
    """
    samples: dict[str, list[Mapping[str, float]]] = {c.name: [] for c in case.contestants}
    for number in range(1 - case.warm_ups, case.rounds + 1):
        for contestant in case.contestants:
            when = "warm-up" if number < 1 else f"round {number} of {case.rounds}"
            on_turn(f"{case.question}, {case.name}: {contestant.name}, {when}")
            measured = _turn(contestant, case.folder or folder)
            if number >= 1:
                samples[contestant.name].append(measured)
    return CaseResult(
        case.question, case.name, tuple(case.measures), samples, reference=case.reference
    )


def _turn(contestant: Contestant, folder: Path) -> Mapping[str, float]:
    folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="forebay-bench-", dir=folder))
    try:
        path = folder / "bench.db"
        contestant.prepare(path)
        gc.collect()
        measured = contestant.run(path)
        contestant.check(path)
        return measured
    finally:
        shutil.rmtree(folder)


def in_new_process(
    function: Callable[..., Mapping[str, float]], *arguments: Any
) -> Mapping[str, float]:
    """Call a function of a module in a new process, whose memory no other contestant has used."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def memory_of(pid: int | Literal["self"], name: Literal["VmRSS", "VmHWM"]) -> int:
    """Return the resident memory of a process (VmRSS), or its peak (VmHWM), in bytes.

    It is read from Linux's /proc, since `ru_maxrss` is that of the process that started this one,
    if it had more.
    """
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0]) << 10


def select(case: Case, name: str | None, contestants: Sequence[str] | None) -> Case | None:
    """Return the case with the named contestants only.

    Args:
        case: the case.
        name: the name of the only case to run; None for all.
        contestants: the names of the contestants to run; None for all.

    Returns:
        The case; None if it has another name, or none of these contestants.
    """
    if name is not None and case.name != name:
        return None
    chosen = [c for c in case.contestants if not contestants or c.name in contestants]
    if not chosen:
        return None
    measured = case.reference in {c.name for c in chosen}
    return replace(case, contestants=chosen, reference=case.reference if measured else None)
