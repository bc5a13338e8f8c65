"""Draw the plot of README and docs: everyday calls first, then the bulk."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.results import CaseResult, Measure, Results, Spread

INK = "#7d8590"
"""The colour of text and lines: a grey that is readable on white and on black."""
OURS, THEIRS, SPREAD = "#2f81f7", "#9aa4af", "#bf6a02"


class Comparison(NamedTuple):
    """A bar of the plot's upper part: how many times as fast forebay is as something else.

    Attributes:
        label: the two calls that are compared.
        question: the name of the question.
        case: the name of the case.
        ours: the contestant with forebay.
        other: the contestant that it is compared with.
    """

    label: str
    question: str
    case: str
    ours: str
    other: str


_LOOP = "sqlite3 executemany"

COMPARISONS = (
    Comparison("await enqueue(row), 1 task / executemany loop",
               "row_by_row", "sequential", "enqueue, 1 task", _LOOP),
    Comparison("enqueue_nowait(row) / executemany loop",
               "row_by_row", "sequential", "enqueue_nowait", _LOOP),
    *(
        Comparison(f"{call} / {other}", "latency", f"{operation}, NORMAL, memory", "forebay", other)
        for call, operation in (
            ("await fetch_one, by key", "read"),
            ("await store.run, one upsert", "transaction"),
            ("await write(row), 1 task", "write"),
        )
        for other in ("aiosqlite", "apsw.aio")
    ),
    Comparison("await enqueue_many(rows) / executemany loop",
               "libraries", "sequential", "forebay", _LOOP),
)  # fmt: skip


def plot(results: Results, target: Path) -> None:
    """Write the speed of everyday calls and the rates of the libraries as PNG and SVG.

    Args:
        results: a run of the main questions, or at least of those that the plot shows.
        target: the files to write, without their suffix. Their background is transparent.
    """
    mpl.rcParams.update(
        {
            "font.family": "sans-serif",
            "font.size": 10,
            "axes.titlesize": 11,
            "figure.titlesize": 11,
            "svg.fonttype": "none",
            "svg.hashsalt": "forebay",
            "text.color": INK,
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "xtick.color": INK,
            "ytick.color": INK,
        }
    )
    bulk = _case(results, "libraries", "sequential")
    heights = [0.34 * len(COMPARISONS) + 1, 0.34 * len(bulk.samples) + 1]
    figure = Figure(figsize=(8, sum(heights) + 0.6), layout="constrained")
    upper, lower = figure.subplots(2, height_ratios=heights)
    _calls(upper, results)
    _rates(lower, bulk)
    facts = results.facts
    figure.suptitle(
        f"The speed of forebay, one run of {str(facts['date'])[:10]}\n"
        f"{facts['processor']}, {facts['cores']} cores, {facts['file system']}; "
        f"Python {facts['python']}, SQLite {facts['sqlite']}",
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    for suffix, options in ((".png", {"dpi": 160}), (".svg", {"metadata": {"Date": None}})):
        figure.savefig(target.with_suffix(suffix), transparent=True, **options)


def _calls(axes: Axes, results: Results) -> None:
    """Draw how many times as fast each call is, in the order of `COMPARISONS` from the top."""
    bars = COMPARISONS[::-1]
    spreads = []
    for bar in bars:
        case = _case(results, bar.question, bar.case)
        measure = case.measures[0]
        spreads.append(_speed(case, bar, measure))
    _bars(axes, [bar.label for bar in bars], spreads, [OURS] * len(bars), "{:.2f}x")
    axes.axvline(1, color=INK, linewidth=1, linestyle="--")
    axes.set_title("One call at a time, rows of 4 columns")
    axes.set_xlabel("speed of forebay / speed of the other: above 1 forebay is faster")


def _speed(case: CaseResult, bar: Comparison, measure: Measure) -> Spread:
    if measure.more_is_better:
        return case.ratio(bar.ours, bar.other, measure.name)
    return case.ratio(bar.other, bar.ours, measure.name)


def _rates(axes: Axes, case: CaseResult) -> None:
    """Draw the rates of the libraries, fastest first."""
    names = sorted(case.samples, key=lambda name: case.spread(name, "rate").median)
    spreads = [case.spread(name, "rate") for name in names]
    colours = [OURS if name.startswith("forebay") else THEIRS for name in names]
    labels = ["forebay, enqueue_many" if name == "forebay" else name for name in names]
    _bars(axes, labels, spreads, colours, "{:,.0f}")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:,.0f}k")
    axes.set_title("Many rows, of 5 columns, sequential keys")
    axes.set_xlabel("rows upserted per second, to COMMIT; thin lines: the middle half")


def _bars(
    axes: Axes, names: list[str], spreads: list[Spread], colours: list[str], text: str
) -> None:
    bars = axes.barh(
        names,
        [spread.median for spread in spreads],
        xerr=[
            [spread.median - spread.low for spread in spreads],
            [spread.high - spread.median for spread in spreads],
        ],
        color=colours,
        error_kw={"ecolor": SPREAD, "elinewidth": 1.5},
    )
    labels = [f" {text.format(spread.median)}" for spread in spreads]
    axes.bar_label(bars, labels, color=INK, padding=4)
    axes.margins(x=0.16, y=0.01)
    axes.spines[["top", "right"]].set_visible(False)


def _case(results: Results, question: str, name: str) -> CaseResult:
    case = results.find(question, name)
    if case is None:
        raise SystemExit(
            f"the results have no case '{question}: {name}'; run the question `{question}` first"
        )
    return case
