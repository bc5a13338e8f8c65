"""How everything here is measured: contestants take turns, and what they wrote is checked.

A B C A B C …, a round of warm-up first, so that a machine that gets slower gets slower for all.
Each turn has a database file of its own, which is checked afterwards: a result whose rows are not
all there does not count, it ends the run. What is compared is the ratio within one round.
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
from typing import Any

from benchmarks.results import CaseResult, Measure


@dataclass(frozen=True)
class Contestant:
    """One way to do the work of a case.

    Attributes:
        name: how tables and plots call it.
        run: does the work in the database at a path, and returns what it measured, by the names
            of the case's measures.
        check: raises where the database is not as the work should have left it.
        prepare: makes the database before the work; not measured.
    """

    name: str
    run: Callable[[Path], Mapping[str, float]]
    check: Callable[[Path], None]
    prepare: Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """A question with all its parameters set.

    Attributes:
        question: the name of the question, its module's.
        name: what is set in this case.
        measures: what each contestant measures.
        contestants: the first is the one that the others are compared with.
        rounds: how often each has its turn and counts.
        warm_ups: how often each has its turn before that, and does not count.
    """

    question: str
    name: str
    measures: Sequence[Measure]
    contestants: Sequence[Contestant]
    rounds: int = 5
    warm_ups: int = 1


def run(case: Case, folder: Path, on_turn: Callable[[str], None]) -> CaseResult:
    """Run a case.

    Args:
        case: the case.
        folder: where the database files are made.
        on_turn: told what is about to run.
    """
    samples: dict[str, list[Mapping[str, float]]] = {c.name: [] for c in case.contestants}
    for number in range(1 - case.warm_ups, case.rounds + 1):
        for contestant in case.contestants:
            when = "warm-up" if number < 1 else f"round {number} of {case.rounds}"
            on_turn(f"{case.question}, {case.name}: {contestant.name}, {when}")
            measured = _turn(contestant, folder)
            if number >= 1:
                samples[contestant.name].append(measured)
    return CaseResult(case.question, case.name, tuple(case.measures), samples)


def _turn(contestant: Contestant, folder: Path) -> Mapping[str, float]:
    own = Path(tempfile.mkdtemp(prefix="forebay-bench-", dir=folder))
    try:
        path = own / "bench.db"
        contestant.prepare(path)
        gc.collect()
        measured = contestant.run(path)
        contestant.check(path)
        return measured
    finally:
        shutil.rmtree(own)


def apart(function: Callable[..., Mapping[str, float]], *arguments: Any) -> Mapping[str, float]:
    """Call a module's function in a process of its own, whose memory is not what others left."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def only(case: Case, name: str | None, contestants: Sequence[str] | None) -> Case | None:
    """Narrow a case to some contestants; None where it is not wanted, or nobody is left."""
    if name is not None and case.name != name:
        return None
    chosen = [c for c in case.contestants if not contestants or c.name in contestants]
    return replace(case, contestants=chosen) if chosen else None
