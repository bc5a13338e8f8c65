"""Compute the expected cache from the trace alone, with plain dictionaries.

This module shares no code with the cache and the server, not even the reader of the trace.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path


@dataclass
class Outcome:
    """The state of a cache after a replay.

    Attributes:
        artifacts: for each key the size, the last access, and the first access since the artifact
            was added.
        evictions: the number of artifacts that were evicted.
    """

    artifacts: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    evictions: int = 0


def expected(
    trace: Path, requests: int | None, *, per_round: int, budget: int, high: float, target: float
) -> Outcome:
    """Return the expected state after a replay.

    Args:
        trace: the file.
        requests: the number of requests to replay; None for all.
        per_round: the number of requests between evictions; there is one at the end too.
        budget: the bytes that all artifacts together may have.
        high: the share of the budget from which artifacts are evicted.
        target: the share of the budget down to which they are evicted.
    """
    outcome = Outcome()
    with trace.open(newline="") as file:
        rows = islice(csv.reader(file), 1, None if requests is None else requests + 1)
        while batch := list(islice(rows, per_round)):
            for row in batch:
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
    outcome: Outcome, stored: dict[str, tuple[int | None, int, int]], evictions: int
) -> list[str]:
    """Return the differences between the expected and the actual cache, one line each.

    Args:
        outcome: the expected state.
        stored: the artifacts in the table, as in `Outcome.artifacts`.
        evictions: the number of evicted artifacts that the cache counted.
    """
    found = [f"missing: {key}" for key in outcome.artifacts.keys() - stored.keys()]
    found += [f"extra: {key}" for key in stored.keys() - outcome.artifacts.keys()]
    found += [
        f"{key}: expected size, last and first access {outcome.artifacts[key]}, got {stored[key]}"
        for key in outcome.artifacts.keys() & stored.keys()
        if outcome.artifacts[key] != stored[key]
    ]
    if evictions != outcome.evictions:
        found.append(f"evictions: expected {outcome.evictions}, got {evictions}")
    return found
