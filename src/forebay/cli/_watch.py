"""What `forebay top` shows of each buffer: numbers now, and how they were before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_KEPT = 120
"""So many samples are kept of each number: no terminal shows more."""

_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a program told of its buffers at one time of its clock, in seconds."""

    time: float
    buffers: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a buffer: its heading, how it is found, how it is written.

    The heading is shown in two lines, where it has a space.
    """

    heading: str
    value: Callable[[Mapping[str, Any], Mapping[str, Any], float], float]
    text: Callable[[float], str]


def count(value: float) -> str:
    """Write a number in some five characters."""
    for limit, divisor, unit in ((1e5, 1, ""), (1e7, 1e3, "k"), (1e10, 1e6, "M")):
        if value < limit:
            return f"{value / divisor:,.0f}{unit}"
    return f"{value / 1e9:,.0f}G"


def share(value: float) -> str:
    """Write a share in percent."""
    return f"{value:.0%}"


def seconds(value: float) -> str:
    """Write a time in seven characters at the most."""
    if value < 0.0995:
        return f"{round(value * 1e3, 2):.3g} ms"
    if value < 999.5:
        return f"{value:.3g} s"
    return f"{value / 60:.0f} min" if value < 59_970 else f"{value / 3600:,.0f} h"


def _now(name: str) -> Callable[[Mapping[str, Any], Mapping[str, Any], float], float]:
    return lambda _before, now, _elapsed: float(now[name])


def _rate(name: str) -> Callable[[Mapping[str, Any], Mapping[str, Any], float], float]:
    return lambda before, now, elapsed: (now[name] - before[name]) / elapsed


def _superseded(before: Mapping[str, Any], now: Mapping[str, Any], _elapsed: float) -> float:
    """Give the superseded share of what settled meanwhile; nothing settled, nothing superseded."""
    names = ("committed", "superseded", "dead_lettered")
    settled = sum(now[name] - before[name] for name in names)
    return (now["superseded"] - before["superseded"]) / settled if settled else 0.0


COLUMNS = (
    Figure("pending", _now("pending"), count),
    Figure("accepted /s", _rate("accepted"), count),
    Figure("rows/s", _rate("committed"), count),
    Figure("super- seded", _superseded, share),
    Figure("flush p50", _now("flush_p50"), seconds),
    Figure("flush p99", _now("flush_p99"), seconds),
    Figure("retries", _now("retries"), count),
    Figure("dead letters", _now("dead_lettered"), count),
    Figure("oldest", _now("oldest_age"), seconds),
)


class Watch:
    """The samples of each buffer's numbers, made of the snapshots so far."""

    def __init__(self) -> None:
        self._last: Snapshot | None = None
        self._samples: dict[str, tuple[deque[float], ...]] = {}

    def add(self, snapshot: Snapshot) -> None:
        """Add a snapshot; the first one is what the second one is compared with."""
        last, self._last = self._last, snapshot
        if last is None or snapshot.time <= last.time:
            return
        elapsed = snapshot.time - last.time
        for name, now in snapshot.buffers.items():
            if name not in self._samples:
                self._samples[name] = tuple(deque[float](maxlen=_KEPT) for _ in COLUMNS)
            before = last.buffers.get(name, now)
            for column, samples in zip(COLUMNS, self._samples[name], strict=True):
                samples.append(column.value(before, now, elapsed))

    def waiting(self) -> dict[str, str]:
        """Tell what buffers wait for, by their names: of each the error of its last attempt."""
        buffers = {} if self._last is None else self._last.buffers
        return {name: told["last_error"] for name, told in buffers.items() if told["last_error"]}

    def __len__(self) -> int:
        return len(self._samples)

    def rows(self, width: int) -> Iterable[tuple[str, dict[str, str]]]:
        """Give for each buffer its name, and its cells by their headings.

        Args:
            width: the length of the sparkline under each number, in characters; 0 for none.
        """
        for name, series in self._samples.items():
            yield (
                name,
                {
                    column.heading: column.text(samples[-1])
                    + (f"\n{sparkline(samples, width)}" if width else "")
                    for column, samples in zip(COLUMNS, series, strict=True)
                },
            )

    def fullest(self, most: int) -> set[str]:
        """Name the buffers with the most pending entries, so many of them at most."""
        ordered = sorted(self._samples, key=lambda name: self._samples[name][0][-1], reverse=True)
        return set(ordered[:most])


def sparkline(samples: Iterable[float], width: int) -> str:
    """Draw the last samples as bars, from nothing to the highest one of them."""
    drawn = list(samples)[-width:]
    highest = max(drawn, default=0.0)
    if highest <= 0:
        return _BARS[0] * len(drawn)
    steps = len(_BARS) - 1
    return "".join(_BARS[round(max(0.0, sample) / highest * steps)] for sample in drawn)
