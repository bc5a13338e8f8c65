"""What a run says, as tables on the terminal."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table

from benchmarks.claims import CLAIMS, Verdict
from benchmarks.results import CaseResult, Measure, Results, Spread


def show_facts(console: Console, results: Results) -> None:
    """Print where the run took place."""
    for name, value in results.facts.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        console.print(f"[dim]{name}:[/dim] {text}", highlight=False)


def show_case(console: Console, case: CaseResult) -> None:
    """Print a case: medians, quartiles, and the first contestant's ratio to each."""
    first = next(iter(case.samples))
    for measure in case.measures:
        table = Table(title=f"{case.question}: {case.name}", title_justify="left")
        table.add_column("contestant")
        table.add_column(f"{measure.name}, {measure.unit}", justify="right")
        table.add_column("middle half", justify="right")
        table.add_column(f"{first} is better", justify="right")
        for contestant in case.samples:
            spread = case.spread(contestant, measure.name)
            table.add_row(
                contestant,
                number(spread.median, measure),
                f"{number(spread.low, measure)} to {number(spread.high, measure)}",
                "" if contestant == first else _times(times_better(case, contestant, measure)),
            )
        console.print(table)


def times_better(case: CaseResult, contestant: str, measure: Measure) -> Spread:
    """Compare the first contestant with another, so that more than 1 is better."""
    first = next(iter(case.samples))
    mine, theirs = (first, contestant) if measure.more_is_better else (contestant, first)
    return case.ratio(mine, theirs, measure.name)


def show_claims(console: Console, results: Results) -> None:
    """Print what is claimed of forebay, beside what this run found."""
    table = Table(title="Claims", title_justify="left")
    for column in ("what", "claimed", "found", "middle half", ""):
        table.add_column(column, justify="right" if column in {"claimed", "found"} else "left")
    for claim in CLAIMS:
        found = claim.judge(results)
        if found is None:
            continue
        value, verdict = found
        table.add_row(
            claim.what,
            claim.bound,
            claim.text(value.median),
            f"{claim.text(value.low)} to {claim.text(value.high)}",
            "[green]holds[/green]" if verdict is Verdict.HOLDS else "[red]missed[/red]",
        )
    console.print(table)


def show_comparison(console: Console, old: Results, new: Results) -> None:
    """Print what changed from one run to another.

    Machines drift, so beside the change of each figure stands that of its ratio to the case's
    other contestants, which drifted with it.
    """
    table = Table(title="Old and new", title_justify="left")
    for column in ("case", "contestant", "old", "new", "change", "change beside the others"):
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
                beside = math.exp(sum(map(math.log, others)) / len(others)) if others else 1.0
                table.add_row(
                    f"{case.question}: {case.name}",
                    name,
                    f"{number(before.spread(name, measure.name).median, measure)}",
                    f"{number(case.spread(name, measure.name).median, measure)} {measure.unit}",
                    f"{changes[name]:.2f}x",
                    f"{changes[name] / beside:.2f}x",
                )
    console.print(table)


def _change(old: CaseResult, new: CaseResult, contestant: str, measure: Measure) -> float:
    before = old.spread(contestant, measure.name).median
    after = new.spread(contestant, measure.name).median
    return after / before if measure.more_is_better else before / after


def number(value: float, measure: Measure) -> str:
    """Write a figure so that it can be read: seconds in the unit that fits, rates by thousands."""
    if measure.unit == "s":
        for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
            if value >= size:
                return f"{value / size:.3g} {unit}"
        return f"{value * 1e9:.0f} ns"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _times(spread: Spread) -> str:
    return f"{spread.median:.2f}x ({spread.low:.2f} to {spread.high:.2f})"
