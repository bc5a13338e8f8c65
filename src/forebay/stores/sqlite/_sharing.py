"""Decide which entries of a table without coalescing may share a statement or a transaction.

Each entry of such a table must have the effect that it has alone. Its UPDATE and DELETE statements
have one row each. An INSERT may have many rows, because SQLite inserts them one after another, and
a refused row is found by bisection. But SQLite checks foreign keys at the end of the statement, or
of the transaction if they are deferred. So a row that violates a foreign key would be accepted if
a later row repaired the violation.

SQLite itself knows which statements can do this. EXPLAIN lists the instructions of a statement, of
its triggers and of its foreign key actions. The instruction FkCounter counts violations of foreign
keys: https://sqlite.org/opcode.html#FkCounter.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import cache
from typing import Any, Final, NamedTuple

from forebay._batching.batch import Batch, Step, WriteStep
from forebay._table.table import Table
from forebay.stores.sqlite._explain import explain
from forebay.stores.sqlite._statements import step_sql, step_width


class _Effects(NamedTuple):
    """What a statement can do, its triggers and foreign key actions included.

    Attributes:
        immediate: how it can change the number of violated foreign keys that must be 0 at the end
            of the statement: up (1), down (-1), or both.
        deferred: the same for the number that must be 0 at COMMIT.
        runs_triggers: whether it can run triggers or foreign key actions.
    """

    immediate: frozenset[int]
    deferred: frozenset[int]
    runs_triggers: bool


_UP_AND_DOWN: Final = frozenset({1, -1})

# While an INSERT of many rows runs, sqlite_sequence has the value from before the statement.
_READS_SEQUENCE: Final = """\
SELECT 1 FROM (SELECT * FROM main.sqlite_schema UNION ALL SELECT * FROM temp.sqlite_schema)
WHERE type IN ('trigger', 'view') AND sql LIKE '%sqlite_sequence%'"""


_MOST_STATEMENTS: Final = 1_000
"""The number of statements after which their effects are forgotten."""


class KnownEffects:
    """The effects of the statements that one connection executed, as long as they are the same.

    They depend on the schema, whose version the file has, and on TEMP triggers and settings of the
    connection: call `forget` after somebody may have changed these.

    A batch would otherwise explain the statements of the batch before it. Python's cache would keep
    each of these statements: see `explain`.
    """

    def __init__(self) -> None:
        self._version: tuple[int] | None = None
        self._by_sql: dict[str, _Effects] = {}

    def of_current_schema(self, raw: sqlite3.Connection) -> dict[str, _Effects]:
        """Return the known effects by the SQL of their statements. You may add others.

        Args:
            raw: the connection, in a transaction that has not changed the schema yet: after a
                rollback, another schema may get the same version.
        """
        version = raw.execute("PRAGMA main.schema_version").fetchone()
        if version != self._version or len(self._by_sql) > _MOST_STATEMENTS:
            self._version, self._by_sql = version, {}
        return self._by_sql

    def forget(self) -> None:
        """Forget all effects."""
        self._version = None


class Sharing:
    """The decisions for the steps of one table in one transaction, which sees one schema."""

    def __init__(
        self, raw: sqlite3.Connection, table: Table[Any], *, variables: int, known: KnownEffects
    ) -> None:
        """Start without decisions.

        Args:
            raw: a connection in a transaction that has not changed the schema yet.
            table: a table without coalescing.
            variables: the largest number of parameters that a statement may have.
            known: the known effects of the connection's statements.
        """
        self._raw = raw
        self._table = table
        self._variables = variables
        self._known = known.of_current_schema(raw)

    def may_share_insert(self, step: Step) -> bool:
        """Return whether the rows of a step may share INSERT statements."""
        effects = self._effects(step)
        if effects.immediate >= _UP_AND_DOWN:
            return False
        return not effects.runs_triggers or self._raw.execute(_READS_SEQUENCE).fetchone() is None

    def may_share_transaction(self, batch: Batch) -> bool:
        """Return whether the entries of a batch may share a transaction."""
        changes = (self._effects(step).deferred for step in batch.steps)
        return not frozenset().union(*changes) >= _UP_AND_DOWN

    def _effects(self, step: Step) -> _Effects:
        if not _explain_shows_effects():  # pragma: no cover  # an SQLite that does not exist yet
            return _Effects(_UP_AND_DOWN, _UP_AND_DOWN, runs_triggers=True)
        width = step_width(self._table, step)
        # An INSERT of many rows counts violations that one of a single row need not count.
        rows = 2 if isinstance(step, WriteStep) and 2 * width <= self._variables else 1
        sql = step_sql(self._table, step, rows)
        if sql not in self._known:
            self._known[sql] = _explain(self._raw, sql, [None] * (rows * width))
        return self._known[sql]


def _explain(raw: sqlite3.Connection, sql: str, parameters: Sequence[None]) -> _Effects:
    instructions = explain(raw, sql, parameters)
    counted = [(p1, p2) for _, opcode, p1, p2, *_ in instructions if opcode == "FkCounter"]
    return _Effects(
        immediate=frozenset(p2 for p1, p2 in counted if not p1),
        deferred=frozenset(p2 for p1, p2 in counted if p1),
        runs_triggers=any(opcode == "Program" for _, opcode, *_ in instructions),
    )


@cache
def _explain_shows_effects() -> bool:
    """Return whether EXPLAIN of this version of SQLite has the instructions as they are read here.

    SQLite may change the output of EXPLAIN. If it has, no entries share anything.
    """
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as scratch:
        scratch.execute("PRAGMA foreign_keys = 1")
        scratch.execute(
            "CREATE TABLE t (k PRIMARY KEY, a REFERENCES t, "
            "b REFERENCES t DEFERRABLE INITIALLY DEFERRED)"
        )
        scratch.execute("CREATE TRIGGER i AFTER INSERT ON t BEGIN DELETE FROM t WHERE 0; END")
        try:
            effects = _explain(scratch, "INSERT INTO t VALUES (1, 2, 3), (4, 5, 6)", ())
        except (sqlite3.Error, TypeError, ValueError):  # pragma: no cover  # the same
            return False
        return effects == (_UP_AND_DOWN, _UP_AND_DOWN, True)
