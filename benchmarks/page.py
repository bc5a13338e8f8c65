"""Write docs/benchmark.md, the page with all figures of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.claims import CLAIM_COLUMNS, CLAIMS
from benchmarks.questions import docstring
from benchmarks.report import number
from benchmarks.results import CaseResult, Results

_HOW_TO_READ = """\
`nox -s bench` measures the main figures, `nox -s bench-full` all of them, and `nox -s bench-plot`
writes this page. A figure is the median of the rounds, with the quartiles in brackets: the middle
half of the rounds is between them. Ratios are computed round by round, since the machine drifts,
and both sides of a round drift together. [Performance](performance.md) explains what follows from
the figures."""


def write_page(results: Results, target: Path) -> None:
    """Write the results of a run as Markdown.

    Args:
        results: the run.
        target: the file to write.
    """
    parts = [
        "# All figures of one run",
        _HOW_TO_READ,
        "\n".join(_facts(results)),
        "## Claims",
        claims(results),
    ]
    for case in results.cases:
        if f"## {case.question}" not in parts:
            parts += [f"## {case.question}", docstring(case.question)]
        parts += [f"### {case.question}: {case.name}", _case(case)]
    target.write_text("\n\n".join(parts) + "\n")


def claims(results: Results) -> str:
    """Return a table of the claims that the run measured."""
    rows = []
    for claim in CLAIMS:
        if (answer := claim.judge(results)) is not None:
            measured, verdict = answer
            middle = f"{claim.text(measured.low)} to {claim.text(measured.high)}"
            rows.append(
                (claim.what, claim.bound, claim.text(measured.median), middle, verdict.value)
            )
    return _table(CLAIM_COLUMNS, rows)


def _facts(results: Results) -> Iterable[str]:
    for name, value in results.facts.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        yield f"- {name}: {text}"


def _case(case: CaseResult) -> str:
    headings, rows = ["contestant"], []
    for measure in case.measures:
        headings += [f"{measure.name}, {measure.unit}", case.comparison]
    for contestant in case.samples:
        row = [contestant]
        for measure in case.measures:
            spread = case.spread(contestant, measure.name)
            row.append(
                f"{number(spread.median, measure)} "
                f"({number(spread.low, measure)} to {number(spread.high, measure)})"
            )
            times = case.compare(contestant, measure)
            row.append("" if times is None else f"{times.median:.2f}x")
        rows.append(row)
    return _table(headings, rows)


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
