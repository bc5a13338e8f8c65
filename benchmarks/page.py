"""The page of the docs that has all figures of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.claims import CLAIMS
from benchmarks.questions import docstring
from benchmarks.report import number, times_better
from benchmarks.results import CaseResult, Results

_HOW_TO_READ = """\
Written by `nox -s bench-full` and `nox -s bench-plot`. Medians over the rounds, and in brackets the
quarter of the rounds on either side. Ratios are taken round by round, so that the drift of the
machine is in both. [performance.md](performance.md) says what follows from them."""


def write_page(results: Results, target: Path) -> None:
    """Write a run as Markdown."""
    parts = [
        "# All figures of one run",
        _HOW_TO_READ,
        "\n".join(_facts(results)),
        "## What is claimed",
        claims(results),
    ]
    for case in results.cases:
        if f"## {case.question}" not in parts:
            parts += [f"## {case.question}", docstring(case.question)]
        parts += [f"### {case.question}: {case.name}", _case(case)]
    target.write_text("\n\n".join(parts) + "\n")


def claims(results: Results) -> str:
    """Give a table of the claims that the run answers."""
    rows = []
    for claim in CLAIMS:
        if (answer := claim.judge(results)) is not None:
            found, verdict = answer
            spread = f"{claim.text(found.low)} to {claim.text(found.high)}"
            rows.append((claim.what, claim.bound, claim.text(found.median), spread, verdict.value))
    return _table(("what", "claimed", "found", "middle half", ""), rows)


def _facts(results: Results) -> Iterable[str]:
    for name, value in results.facts.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        yield f"- {name}: {text}"


def _case(case: CaseResult) -> str:
    first = next(iter(case.samples))
    heads, rows = ["contestant"], []
    for measure in case.measures:
        heads += [f"{measure.name}, {measure.unit}", f"{first} is better by"]
    for contestant in case.samples:
        row = [contestant]
        for measure in case.measures:
            found = case.spread(contestant, measure.name)
            row.append(
                f"{number(found.median, measure)} "
                f"({number(found.low, measure)} to {number(found.high, measure)})"
            )
            times = times_better(case, contestant, measure)
            row.append("" if contestant == first else f"{times.median:.2f}x")
        rows.append(row)
    return _table(heads, rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
