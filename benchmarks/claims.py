"""Claims about forebay's speed: each is a bound on a figure that a run measures.

A claim about a new question is one more entry of `CLAIMS`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from benchmarks.results import Results, Spread

CLAIM_COLUMNS = ("what", "claimed", "measured", "middle half", "")
"""The columns of a table of claims."""


class ClaimVerdict(enum.Enum):
    """Whether a run confirms a claim."""

    HOLDS = "holds"
    MISSED = "missed"


@dataclass(frozen=True)
class Claim:
    """A bound on one measure of one contestant, or on its ratio to that of another one.

    Attributes:
        what: the claim in words.
        question: the name of the question.
        cases: the names of cases that answer it; the last one that the run has counts.
        measure: the name of the measure.
        contestant: the contestant whose measure it is.
        against: the contestant whose measure it is divided by, round by round; None for the
            measure itself.
        at_least: the lower bound; None if there is none.
        at_most: the upper bound; None if there is none.
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
        """The bound as text."""
        if self.at_least is not None:
            return f"at least {self.text(self.at_least)}"
        return f"at most {self.text(self.at_most or 0)}"

    def text(self, value: float) -> str:
        """Return a value as text: a ratio, or milliseconds."""
        return (
            f"{value * 1e3:.1f} ms"
            if self.against is None and self.measure != "growth"
            else f"{value:.2f}x"
        )

    def judge(self, results: Results) -> tuple[Spread, ClaimVerdict] | None:
        """Compare the claim with a run.

        Returns:
            The figure that the run measured and whether it is within the bound; None if the run
            did not measure it.
        """
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
            measured = case.spread(self.contestant, self.measure)
        else:
            measured = case.ratio(self.contestant, self.against, self.measure)
        holds = (self.at_least is None or measured.median >= self.at_least) and (
            self.at_most is None or measured.median <= self.at_most
        )
        return measured, ClaimVerdict.HOLDS if holds else ClaimVerdict.MISSED


def _a_call(call: str, against: str, at_most: float) -> Claim:
    return Claim(
        f"time of a call of {call}, against {against} of a Trio memory channel",
        "one_call", (call,), "cost", call, against, at_most=at_most,
    )  # fmt: skip


def _row_by_row(contestant: str, order: str, at_least: float) -> Claim:
    return Claim(
        f"{contestant}, row by row to COMMIT, {order} keys, against an executemany loop",
        "row_by_row", (order,), "rate", contestant, "sqlite3 executemany", at_least,
    )  # fmt: skip


def _speed(operation: str, what: str, synchronous: str, against: str, at_least: float) -> Claim:
    # The speed is the inverse of the time: the ratio is that of the other library's time.
    return Claim(
        f"speed of {what}, synchronous {synchronous}, against {against}",
        "latency", (f"{operation}, {synchronous}, memory",), "p50", against, "forebay", at_least,
    )  # fmt: skip


def _clickhouse(case: str, contestant: str, against: str, at_least: float) -> Claim:
    return Claim(
        f"rows to ClickHouse, {case}: {contestant} against {against}",
        "clickhouse", (case,), "rate", contestant, against, at_least,
    )  # fmt: skip


def _speeds(synchronous: str) -> tuple[Claim, ...]:
    transaction, write = "store.run with one upsert", "an awaited write by one task"
    return (
        _speed("transaction", transaction, synchronous, "aiosqlite", 0.8),
        _speed("transaction", transaction, synchronous, "apsw.aio", 1.5),
        _speed("write", write, synchronous, "aiosqlite", 0.5),
        _speed("write", write, synchronous, "apsw.aio", 0.6),
    )


def _executemany(order: str, at_least: float) -> Claim:
    return Claim(
        f"enqueue_many to COMMIT, {order} keys, against an executemany loop",
        "enqueue_to_commit", (order,), "rate", "forebay", "sqlite3 executemany", at_least,
    )  # fmt: skip


def _fastest_by_hand(order: str) -> Claim:
    return Claim(
        f"enqueue_many to COMMIT, {order} keys, against the fastest loop written by hand",
        "enqueue_to_commit", (order,), "rate", "forebay", "sqlite3 multi-row", 0.75,
    )  # fmt: skip


def _library(against: str, at_least: float) -> Claim:
    return Claim(
        f"enqueue_many to COMMIT against {against}",
        "libraries", ("sequential",), "rate", "forebay", against, at_least,
    )  # fmt: skip


def _awaited_write(tasks: str, at_least: float) -> Claim:
    return Claim(
        f"write by {tasks}, synchronous FULL, against aiosqlite",
        "durable_writes", (f"{tasks}, FULL",), "rate", "forebay", "aiosqlite", at_least,
    )  # fmt: skip


def _load(against: str, at_least: float) -> Claim:
    return Claim(
        f"forebay load of a CSV file against {against}",
        "loader", ("336,776 rows",), "rate", "forebay load", against, at_least,
    )  # fmt: skip


def _proportion(operation: str, what: str) -> Claim:
    return Claim(
        f"time per item {what}, 100,000 items against 1,000 items",
        "proportion", (operation,), "time per item", "100,000 items", "1,000 items", at_most=2,
    )  # fmt: skip


def _cache_server(method: str, case: str, measure: str, at_least: float) -> Claim:
    return Claim(
        f"{method} of {case} to examples/build_cache, against turborepo-remote-cache",
        "cache_server", (case,), measure, "forebay", "turborepo-remote-cache", at_least,
    )  # fmt: skip


CLAIMS = (
    _row_by_row("enqueue_nowait", "sequential", 1.2),
    _row_by_row("enqueue_nowait", "shuffled", 1.7),
    _row_by_row("enqueue_nowait", "hot", 1.8),
    _row_by_row("enqueue, 1 task", "sequential", 1.0),
    _row_by_row("enqueue, 1 task", "shuffled", 1.5),
    _row_by_row("enqueue, 1 task", "hot", 1.5),
    _row_by_row("enqueue, 100 tasks", "sequential", 0.9),
    _row_by_row("enqueue, 100 tasks", "shuffled", 1.4),
    _row_by_row("enqueue, 100 tasks", "hot", 1.4),
    _a_call("enqueue_nowait", "send_nowait", 3),
    _a_call("enqueue", "send", 0.5),
    _speed("read", "fetch_one of a row by key", "NORMAL", "aiosqlite", 1.0),
    _speed("read", "fetch_one of a row by key", "NORMAL", "apsw.aio", 2.0),
    *_speeds("NORMAL"),
    *_speeds("FULL"),
    _executemany("sequential", 1.6),
    _executemany("shuffled", 1.8),
    _executemany("hot", 2.2),
    _fastest_by_hand("sequential"),
    _fastest_by_hand("shuffled"),
    _fastest_by_hand("hot"),
    _library("aiosqlite row by row", 40),
    _library("peewee queue row by row", 40),
    _library("sqlite-anyio row by row", 40),
    _library("sqlite-utils insert_all", 3),
    _library("apsw.aio executemany", 1.2),
    _awaited_write("1,000 tasks", 8),
    _awaited_write("1 task", 1),
    Claim(
        "duration of a flush of 5,000 rows beside a saturated event loop, against an idle one",
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
        "throughput in a table of 10,000,000 rows against 100,000 rows, new keys",
        "table_growth", ("new keys",), "rate", "10,000,000 rows", "100,000 rows", 0.7,
    ),
    Claim(
        "throughput with 64 tables against 1 table",
        "tables", ("enqueue_many",), "rate", "64 tables", "1 table", 0.8,
    ),
    Claim(
        "CPU time of a row for each of 64 tables, against as many flushes of one table",
        "tables", ("one row each",), "CPU time per row", "64 tables", "1 table", at_most=1.1,
    ),
    Claim(
        "throughput of 10,000 tasks that enqueue row by row against 10 tasks",
        "producers", ("enqueue",), "rate", "10,000 tasks", "10 tasks", 0.8,
    ),
    _load("sqlite-utils insert", 10),
    _load("sqlite3 .import", 0.4),
    Claim(
        "memory of a load of 5,000,000 rows against 1,000,000 rows",
        "loader", ("memory",), "memory", "5,000,000 rows", "1,000,000 rows", at_most=1.1,
    ),
    _proportion("list", "to list dead letters"),
    _proportion("replay", "to replay dead letters"),
    _proportion("replay by id", "to replay dead letters named by their ids"),
    _proportion("replay, refused again", "to replay dead letters that are refused again"),
    _proportion("purge", "to purge dead letters"),
    _proportion("bisection", "to commit a batch with refused rows"),
    _proportion("eviction", "to evict artifacts"),
    Claim(
        "memory of an overloaded process, last quarter of the run against the second quarter",
        "overload", ("15 s", "600 s"), "growth", "capacity=100,000", at_most=1.1,
    ),
    _clickhouse("to the acknowledgement", "forebay", "clickhouse-connect", 2.0),
    _clickhouse("to the acknowledgement", "forebay", "asynch", 0.9),
    _clickhouse("commits of 1,000 rows", "spool", "SQLite", 0.77),
    _clickhouse("commits of 20,000 rows", "spool", "SQLite", 0.77),
    _cache_server("PUT", "4 KiB", "put", 1.0),
    _cache_server("GET", "4 KiB", "get", 1.0),
)  # fmt: skip
