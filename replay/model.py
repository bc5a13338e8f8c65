"""What the cache must come to, computed from the trace alone, with plain dictionaries.

It shares nothing with what it checks: neither code nor the reading of the trace.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path


@dataclass
class Outcome:
    """The end of a replay.

    Attributes:
        artifacts: the size, the last access and the first one since it was added, by key.
        evictions: how many artifacts were evicted.
    """

    artifacts: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    evictions: int = 0


def expected(
    trace: Path, requests: int | None, *, per_round: int, budget: int, high: float, target: float
) -> Outcome:
    """Compute the end of a replay.

    Args:
        trace: the file.
        requests: how many of its requests.
        per_round: after how many of them there is an eviction, each time and at the end.
        budget: the bytes that all artifacts may have.
        high: the part of the budget from which on there is something to evict.
        target: the part that is left then, at the most.
    """
    outcome = Outcome()
    with trace.open(newline="") as file:
        rows = islice(csv.reader(file), 1, None if requests is None else requests + 1)
        while some := list(islice(rows, per_round)):
            for row in some:
                key, size, time = row[1].strip(), int(row[2]), int(row[0]) * 1_000_000
                _, _, added = outcome.artifacts.get(key, (0, 0, time))
                outcome.artifacts[key] = (size, time, added)
            _evict(outcome, budget, high, target)
    return outcome


def _evict(outcome: Outcome, budget: int, high: float, target: float) -> None:
    total = sum(size for size, _, _ in outcome.artifacts.values())
    if total < high * budget:
        return
    for key in sorted(outcome.artifacts, key=lambda key: (outcome.artifacts[key][1], key)):
        if total <= target * budget:
            return
        total -= outcome.artifacts.pop(key)[0]
        outcome.evictions += 1


def differences(
    wanted: Outcome, stored: dict[str, tuple[int | None, int, int]], evictions: int
) -> list[str]:
    """Tell in what the cache differs from what it must have come to.

    Args:
        wanted: what it must have come to.
        stored: what the table holds, as `Outcome.artifacts`.
        evictions: how many artifacts the cache says it evicted.
    """
    found = [f"missing: {key}" for key in wanted.artifacts.keys() - stored.keys()]
    found += [f"extra: {key}" for key in stored.keys() - wanted.artifacts.keys()]
    found += [
        f"{key}: expected size, last and first access {wanted.artifacts[key]}, got {stored[key]}"
        for key in wanted.artifacts.keys() & stored.keys()
        if wanted.artifacts[key] != stored[key]
    ]
    if evictions != wanted.evictions:
        found.append(f"evictions: expected {wanted.evictions}, got {evictions}")
    return found
