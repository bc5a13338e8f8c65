"""The columns of `forebay top`: how each figure is computed and how it is formatted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Statistics: TypeAlias = Mapping[str, Any]
"""The fields of one buffer's `BufferStatistics`."""

Figure: TypeAlias = Callable[[Statistics, Statistics, float], float]
"""Computes a figure from a buffer's statistics in the last snapshot but one, those in the last
snapshot, and the seconds between the two."""


@dataclass(frozen=True, slots=True)
class ViewColumn:
    """One column of the view.

    Attributes:
        heading: the heading; a space in it is shown as a line break.
        figure: computes the column's figure for a buffer.
        format: formats a figure, in at most seven characters.
    """

    heading: str
    figure: Figure
    format: Callable[[float], str]


def format_count(value: float) -> str:
    """Format a number, in about five characters."""
    for limit, divisor, unit in ((1e5, 1, ""), (1e7, 1e3, "k"), (1e10, 1e6, "M")):
        if value < limit:
            return f"{value / divisor:,.0f}{unit}"
    return f"{value / 1e9:,.0f}G"


def format_share(value: float) -> str:
    """Format a share as a percentage."""
    return f"{value:.0%}"


def format_seconds(value: float) -> str:
    """Format a time given in seconds, in at most seven characters."""
    if value < 0.0995:
        return f"{round(value * 1e3, 2):.3g} ms"
    if value < 999.5:
        return f"{value:.3g} s"
    return f"{value / 60:.0f} min" if value < 59_970 else f"{value / 3600:,.0f} h"


def _latest(field: str) -> Figure:
    return lambda _before, now, _elapsed: float(now[field])


def _rate(field: str) -> Figure:
    return lambda before, now, elapsed: (now[field] - before[field]) / elapsed


def _superseded_share(before: Statistics, now: Statistics, _elapsed: float) -> float:
    """Return the share of the newly settled entries that were superseded; 0.0 if none settled."""
    fields = ("committed", "superseded", "dead_lettered")
    settled = sum(now[field] - before[field] for field in fields)
    return (now["superseded"] - before["superseded"]) / settled if settled else 0.0


PENDING = ViewColumn("pending", _latest("pending"), format_count)

COLUMNS = (
    PENDING,
    ViewColumn("accepted /s", _rate("accepted"), format_count),
    ViewColumn("rows/s", _rate("committed"), format_count),
    ViewColumn("super- seded", _superseded_share, format_share),
    ViewColumn("flush p50", _latest("flush_p50"), format_seconds),
    ViewColumn("flush p99", _latest("flush_p99"), format_seconds),
    ViewColumn("retries", _latest("retries"), format_count),
    ViewColumn("dead letters", _latest("dead_lettered"), format_count),
    ViewColumn("oldest", _latest("oldest_age"), format_seconds),
)
