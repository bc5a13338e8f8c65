"""What is claimed of forebay's speed, each claim a bound on something a run finds."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from benchmarks.results import Results, Spread


class Verdict(enum.Enum):
    """What a run says of a claim."""

    HOLDS = "holds"
    MISSED = "missed"


@dataclass(frozen=True)
class Claim:
    """A bound on one measure of one contestant, or on its ratio to another's.

    Attributes:
        what: the claim in words.
        question: the question.
        cases: the names of cases that answer it: of these the run has, the last one counts.
        measure: the measure's name.
        contestant: whose measure.
        against: whose measure it is divided by, round by round; None for the measure itself.
        at_least: the bound from below, or
        at_most: the bound from above.
    """

    what: str
    question: str
    cases: tuple[str, ...]
    measure: str
    contestant: str
    against: str | None = None
    at_least: float | None = None
    at_most: float | None = None

    @property
    def bound(self) -> str:
        """The bound in words."""
        if self.at_least is not None:
            return f"at least {self.text(self.at_least)}"
        return f"at most {self.text(self.at_most or 0)}"

    def text(self, value: float) -> str:
        """Write a value: a ratio, or milliseconds."""
        return (
            f"{value * 1e3:.1f} ms"
            if self.against is None and self.measure != "growth"
            else f"{value:.2f}x"
        )

    def judge(self, results: Results) -> tuple[Spread, Verdict] | None:
        """Look the claim up in a run; None where the run does not answer it."""
        answers = [
            case
            for name in self.cases
            if (case := results.find(self.question, name)) is not None
            and self.contestant in case.samples
            and (self.against is None or self.against in case.samples)
        ]
        if not answers:
            return None
        case = answers[-1]
        if self.against is None:
            found = case.spread(self.contestant, self.measure)
        else:
            found = case.ratio(self.contestant, self.against, self.measure)
        holds = (self.at_least is None or found.median >= self.at_least) and (
            self.at_most is None or found.median <= self.at_most
        )
        return found, Verdict.HOLDS if holds else Verdict.MISSED


def _hand_written(order: str, at_least: float) -> Claim:
    return Claim(
        f"enqueue to COMMIT, {order}, against a hand-written executemany loop",
        "enqueue_to_commit", (order,), "rate", "forebay", "sqlite3 executemany", at_least,
    )  # fmt: skip


def _limit(order: str) -> Claim:
    return Claim(
        f"the same, {order}, as a share of the fastest loop written by hand",
        "enqueue_to_commit", (order,), "rate", "forebay", "sqlite3 multi-row", 0.75,
    )  # fmt: skip


def _library(against: str, at_least: float) -> Claim:
    return Claim(
        f"enqueue to COMMIT against {against}",
        "libraries", ("sequential",), "rate", "forebay", against, at_least,
    )  # fmt: skip


def _durable(tasks: str, at_least: float) -> Claim:
    return Claim(
        f"durable writes by {tasks}, synchronous FULL, against aiosqlite",
        "durable_writes", (f"{tasks}, FULL",), "rate", "forebay", "aiosqlite", at_least,
    )  # fmt: skip


CLAIMS = (
    _hand_written("sequential", 1.6),
    _hand_written("shuffled", 1.8),
    _hand_written("hot", 2.2),
    _limit("sequential"),
    _limit("shuffled"),
    _limit("hot"),
    _library("aiosqlite a row", 40),
    _library("peewee queue a row", 40),
    _library("sqlite-anyio a row", 40),
    _library("sqlite-utils insert_all", 3),
    _durable("1,000 tasks", 8),
    _durable("1 tasks", 1),
    Claim(
        "a flush of 5,000 rows beside a saturated event loop, against beside an idle one",
        "busy_loop", ("5,000 rows",), "flush", "forebay, saturated", "forebay, idle", at_most=2,
    ),
    Claim(
        "lateness of other tasks while enqueue_many saturates a buffer, 99th percentile",
        "saturation", ("shuffled",), "p99", "enqueue_many", at_most=0.010,
    ),
    Claim(
        "throughput with telemetry against without",
        "telemetry", ("sequential",), "rate", "telemetry on", "telemetry off", 0.97,
    ),
    Claim(
        "throughput in a large table against one of 100,000 rows, keys that follow",
        "table_growth", ("keys that follow",), "rate", "10,000,000 rows", "100,000 rows", 0.7,
    ),
    Claim(
        "64 tables against 1",
        "tables", ("enqueue_many",), "rate", "64 tables", "1 table", 0.8,
    ),
    Claim(
        "10,000 tasks that enqueue row by row against 10",
        "producers", ("enqueue",), "rate", "10,000 tasks", "10 tasks", 0.8,
    ),
    Claim(
        "memory of an overloaded process, last quarter of the time against the second",
        "overload", ("15 s", "600 s"), "growth", "capacity=100,000", at_most=1.1,
    ),
)  # fmt: skip
