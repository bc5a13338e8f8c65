"""Print the results of a run as tables."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table

from benchmarks.claims import CLAIM_COLUMNS, CLAIMS, ClaimVerdict
from benchmarks.results import CaseResult, Measure, Results, Spread


def show_facts(console: Console, results: Results) -> None:
    """Print the facts about a run."""
    for name, value in results.facts.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        console.print(f"[dim]{name}:[/dim] {text}", highlight=False)


def show_case(console: Console, case: CaseResult) -> None:
    """Print a case: medians, quartiles, and the ratios that compare the contestants."""
    for measure in case.measures:
        table = Table(title=f"{case.question}: {case.name}", title_justify="left")
        table.add_column("contestant")
        table.add_column(f"{measure.name}, {measure.unit}", justify="right")
        table.add_column("middle half", justify="right")
        table.add_column(case.comparison, justify="right")
        for contestant in case.samples:
            spread = case.spread(contestant, measure.name)
            times = case.compare(contestant, measure)
            table.add_row(
                contestant,
                number(spread.median, measure),
                f"{number(spread.low, measure)} to {number(spread.high, measure)}",
                "" if times is None else _times(times),
            )
        console.print(table)


def show_claims(console: Console, results: Results) -> None:
    """Print each claim about forebay beside what this run measured."""
    table = Table(title="Claims", title_justify="left")
    for column in CLAIM_COLUMNS:
        table.add_column(column, justify="right" if column in {"claimed", "measured"} else "left")
    for claim in CLAIMS:
        judged = claim.judge(results)
        if judged is None:
            continue
        measured, verdict = judged
        table.add_row(
            claim.what,
            claim.bound,
            claim.text(measured.median),
            f"{claim.text(measured.low)} to {claim.text(measured.high)}",
            "[green]holds[/green]" if verdict is ClaimVerdict.HOLDS else "[red]missed[/red]",
        )
    console.print(table)


def show_comparison(console: Console, old: Results, new: Results) -> None:
    """Print what changed from one run to another.

    Machines drift. So the last column has the change relative to the other contestants of the
    case, which drifted too: 1.00x means that only the machine changed.
    """
    table = Table(title="Old run and new run", title_justify="left")
    for column in ("case", "contestant", "old", "new", "change", "change relative to the others"):
        table.add_column(column, justify="left" if column in {"case", "contestant"} else "right")
    for case in new.cases:
        before = old.find(case.question, case.name)
        if before is None:
            continue
        for measure in case.measures:
            common = [name for name in case.samples if name in before.samples]
            changes = {name: _change(before, case, name, measure) for name in common}
            for name in common:
                others = [change for other, change in changes.items() if other != name]
                drift = math.exp(sum(map(math.log, others)) / len(others)) if others else 1.0
                table.add_row(
                    f"{case.question}: {case.name}",
                    name,
                    f"{number(before.spread(name, measure.name).median, measure)}",
                    f"{number(case.spread(name, measure.name).median, measure)} {measure.unit}",
                    f"{changes[name]:.2f}x",
                    f"{changes[name] / drift:.2f}x",
                )
    console.print(table)


def _change(old: CaseResult, new: CaseResult, contestant: str, measure: Measure) -> float:
    before = old.spread(contestant, measure.name).median
    after = new.spread(contestant, measure.name).median
    return after / before if measure.more_is_better else before / after


def number(value: float, measure: Measure) -> str:
    """Return a figure as text: seconds in a unit that fits, large numbers with separators."""
    if measure.unit == "s":
        for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
            if value >= size:
                return f"{value / size:.3g} {unit}"
        return f"{value * 1e9:.0f} ns"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _times(spread: Spread) -> str:
    return f"{spread.median:.2f}x ({spread.low:.2f} to {spread.high:.2f})"
