"""The samples that `forebay top` shows: the latest figures and the ones before them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from forebay.cli._top.client import Snapshot
from forebay.cli._top.columns import COLUMNS, PENDING

_MAX_SAMPLES = 120
"""Samples kept per figure. No terminal shows a longer sparkline."""

_BARS = "▁▂▃▄▅▆▇█"


class History:
    """The samples of each buffer's figures."""

    def __init__(self) -> None:
        self._last: Snapshot | None = None
        self._samples: dict[str, tuple[deque[float], ...]] = {}
        """By the buffer's name: for each column of `COLUMNS` its samples."""

    def add(self, snapshot: Snapshot) -> None:
        """Compute the figures of a snapshot and add them as samples.

        The first snapshot adds no sample, since a rate needs two.
        """
        last, self._last = self._last, snapshot
        if last is None or snapshot.time <= last.time:
            return
        elapsed = snapshot.time - last.time
        for name, now in snapshot.buffers.items():
            if name not in self._samples:
                self._samples[name] = tuple(deque[float](maxlen=_MAX_SAMPLES) for _ in COLUMNS)
            before = last.buffers.get(name, now)
            for column, samples in zip(COLUMNS, self._samples[name], strict=True):
                samples.append(column.figure(before, now, elapsed))

    def last_errors(self) -> dict[str, str]:
        """Return the last error of each buffer that retries a flush or is suspended, by name."""
        buffers = {} if self._last is None else self._last.buffers
        return {
            name: statistics["last_error"]
            for name, statistics in buffers.items()
            if statistics["last_error"]
        }

    def spooled(self) -> dict[str, tuple[int, float]]:
        """Return the rows that wait for a database behind a spool, and the oldest age, by name."""
        buffers = {} if self._last is None else self._last.buffers
        return {
            name: (int(statistics["spool_entries"]), float(statistics["spool_oldest_age"]))
            for name, statistics in buffers.items()
            if statistics.get("spool_entries")
        }

    def suspended(self) -> set[str]:
        """Return the names of the buffers that are suspended."""
        buffers = {} if self._last is None else self._last.buffers
        return {name for name, statistics in buffers.items() if statistics["suspended"]}

    def __len__(self) -> int:
        """Return the number of buffers that have samples."""
        return len(self._samples)

    def rows(self, width: int) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield each buffer's name, and the text of its cells by their headings.

        Args:
            width: the length of the sparkline below each figure, in characters; 0 for none.
        """
        for name, series in self._samples.items():
            yield (
                name,
                {
                    column.heading: column.format(samples[-1])
                    + (f"\n{sparkline(samples, width)}" if width else "")
                    for column, samples in zip(COLUMNS, series, strict=True)
                },
            )

    def fullest(self, limit: int) -> set[str]:
        """Return the names of the buffers with the most pending entries, at most `limit` of them.

        At the same number of pending entries, the buffer that was seen first goes first.
        """
        pending = COLUMNS.index(PENDING)
        ordered = sorted(
            self._samples, key=lambda name: self._samples[name][pending][-1], reverse=True
        )
        return set(ordered[:limit])


def sparkline(samples: Iterable[float], width: int) -> str:
    """Draw the last `width` samples as bars, scaled so that the largest has the highest bar."""
    drawn = list(samples)[-width:]
    highest = max(drawn, default=0.0)
    if highest <= 0:
        return _BARS[0] * len(drawn)
    steps = len(_BARS) - 1
    return "".join(_BARS[round(max(0.0, sample) / highest * steps)] for sample in drawn)
