"""Compare Python versions: run the questions with each of them in turn."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import report
from benchmarks.results import CaseResult, Results

QUESTIONS = (
    "row_by_row", "one_call", "latency", "enqueue_to_commit", "durable_writes", "busy_loop",
    "saturation", "tables", "producers",
)  # fmt: skip
"""The questions of the comparison: they depend on Python more than on another library."""


def compare(
    interpreters: Sequence[Path], questions: Sequence[str], rounds: int, folder: Path
) -> None:
    """Run each question with each interpreter in turn, and print how they compare.

    A turn is a run of one question in a process of its own. The turns go A B C A B C …, so that a
    machine that becomes slower becomes slower for all. The medians of the turns are compared.

    Args:
        interpreters: the interpreters, each of an environment with all that the benchmarks need.
            The other ones are compared with the first.
        questions: the names of the questions.
        rounds: how many turns each interpreter has for each question.
        folder: the folder for database files.
    """
    console = Console()
    for question in questions:
        turns: dict[Path, list[Results]] = {each: [] for each in interpreters}
        for number in range(1, rounds + 1):
            for each in interpreters:
                console.print(f"[dim]{question}, round {number} of {rounds}: {each}[/dim]")
                turns[each].append(_turn(each, question, folder))
        first, *others = (_merged(results) for results in turns.values())
        for other in others:
            console.print(f"\nPython {first.facts['python']} and {other.facts['python']}:")
            report.show_comparison(console, first, other)


def _turn(interpreter: Path, question: str, folder: Path) -> Results:
    with tempfile.TemporaryDirectory() as results:
        path = Path(results) / "results.json"
        subprocess.run(  # noqa: S603  # the interpreters that the caller named
            [interpreter, "-m", "benchmarks", "run", question, "--path", folder, "--json", path],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return Results.load(path)


def _merged(turns: Sequence[Results]) -> Results:
    """Return one result whose samples are those of all turns."""
    merged = [
        CaseResult(
            case.question,
            case.name,
            case.measures,
            {
                name: [
                    sample
                    for turn in turns
                    if (same := turn.find(case.question, case.name)) is not None
                    for sample in same.samples[name]
                ]
                for name in case.samples
            },
            case.reference,
        )
        for case in turns[0].cases
    ]
    return Results(turns[0].facts, merged)
