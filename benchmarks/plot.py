"""Draw the plot of README and docs: rows per second to COMMIT, for each way to write."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.results import CaseResult, Results

INK = "#7d8590"
"""The colour of text and lines: a grey that is readable on white and on black."""
OURS, THEIRS = "#2f81f7", "#9aa4af"


def plot(results: Results, target: Path) -> None:
    """Write the rates of the libraries, fastest first, as PNG and SVG with transparent background.

    Args:
        results: a run with the case `libraries: sequential`.
        target: the files to write, without their suffix.
    """
    case = results.find("libraries", "sequential")
    if case is None:
        raise SystemExit(
            "the results have no case 'libraries: sequential'; run the question `libraries` first"
        )
    mpl.rcParams.update(
        {
            "font.family": "sans-serif",
            "font.size": 10,
            "svg.fonttype": "none",
            "svg.hashsalt": "forebay",
            "text.color": INK,
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "xtick.color": INK,
            "ytick.color": INK,
        }
    )
    figure = _bars(case, results)
    target.parent.mkdir(parents=True, exist_ok=True)
    for suffix, options in ((".png", {"dpi": 160}), (".svg", {"metadata": {"Date": None}})):
        figure.savefig(target.with_suffix(suffix), transparent=True, **options)


def _bars(case: CaseResult, results: Results) -> Figure:
    names = sorted(case.samples, key=lambda name: case.spread(name, "rate").median)
    spreads = [case.spread(name, "rate") for name in names]
    figure = Figure(figsize=(8, 0.34 * len(names) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    bars = axes.barh(
        names,
        [spread.median for spread in spreads],
        xerr=[
            [spread.median - spread.low for spread in spreads],
            [spread.high - spread.median for spread in spreads],
        ],
        color=[OURS if name.startswith("forebay") else THEIRS for name in names],
        error_kw={"ecolor": INK, "elinewidth": 1},
    )
    axes.bar_label(bars, [f" {spread.median:,.0f}" for spread in spreads], color=INK, padding=4)
    axes.margins(x=0.16, y=0.01)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:,.0f}k")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("rows per second to COMMIT; the thin line spans the middle half of the rounds")
    facts = results.facts
    axes.set_title(
        f"{facts['processor']}, {facts['cores']} cores, {facts['file system']}; "
        f"Python {facts['python']}, SQLite {facts['sqlite']}; {str(facts['date'])[:10]}",
        fontsize=8,
    )
    return figure
