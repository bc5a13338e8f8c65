"""Hypothesis strategies for schemas whose constraints and triggers depend on the order of entries.

The table `t` is written. It may have foreign keys to itself, to `p` and to `c`; `c` may have one to
`t`; and triggers may read and write all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from forebay import Delete, DeleteBy, Table, Update, Write
from forebay._table.operations import Operation

_ACTIONS = ["", "CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT"]

_TRIGGERS = [
    # They only write elsewhere.
    "AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.k, new.u, new.r); END",
    "AFTER INSERT ON t BEGIN INSERT INTO c (tk) VALUES (new.k); END",
    "AFTER INSERT ON t BEGIN INSERT OR REPLACE INTO p VALUES (new.r, new.u); END",
    "BEFORE INSERT ON t BEGIN INSERT OR IGNORE INTO p VALUES (new.r, new.u); END",
    "AFTER UPDATE ON t BEGIN INSERT INTO log VALUES (old.k, old.u, new.u); END",
    "AFTER DELETE ON t BEGIN INSERT INTO log VALUES (old.k, old.u, -1); END",
    # They read the table, or what SQLite may change only at the end of a statement.
    "BEFORE INSERT ON t BEGIN INSERT INTO log SELECT new.k, count(*), max(u) FROM t; END",
    "AFTER UPDATE ON t BEGIN INSERT INTO log SELECT new.k, count(*), sum(u) FROM t; END",
    "AFTER DELETE ON t BEGIN INSERT INTO log SELECT old.k, count(*), min(u) FROM t; END",
    "AFTER INSERT ON t BEGIN INSERT INTO log SELECT new.k, seq, 0 FROM sequences; END",
    # They refuse or drop rows.
    "BEFORE INSERT ON t WHEN (SELECT count(*) FROM t) > 3 BEGIN SELECT RAISE(ABORT, 'no'); END",
    "AFTER INSERT ON t WHEN new.u = 2 BEGIN SELECT RAISE(FAIL, 'no'); END",
    "BEFORE INSERT ON t WHEN new.u = 1 BEGIN SELECT RAISE(IGNORE); END",
    "AFTER INSERT ON t WHEN (SELECT sum(u) FROM t) > 5 BEGIN SELECT RAISE(ROLLBACK, 'no'); END",
    "BEFORE DELETE ON t WHEN (SELECT count(*) FROM t) = 2 BEGIN SELECT RAISE(ABORT, 'no'); END",
    "AFTER UPDATE ON t WHEN (SELECT sum(u) FROM t) > 9 BEGIN SELECT RAISE(ABORT, 'no'); END",
    # They write the table.
    "AFTER INSERT ON t BEGIN DELETE FROM t WHERE k = new.k - 1; END",
    "AFTER INSERT ON t BEGIN UPDATE t SET u = u + 10 WHERE k = new.k + 1; END",
    "AFTER DELETE ON t BEGIN INSERT OR IGNORE INTO t (k, u, r) VALUES (old.k + 1, old.u, 1); END",
    "BEFORE UPDATE ON t BEGIN DELETE FROM t WHERE k = new.r AND k <> old.k; END",
    "AFTER INSERT ON log BEGIN UPDATE t SET r = NULL WHERE r = new.a; END",
]


@dataclass(frozen=True)
class Schema:
    """A table `t`, and the SQL that creates all tables, while foreign keys are off.

    So some foreign keys may be violated already.
    """

    ddl: str
    table: Table[tuple[Any, ...]]

    def __repr__(self) -> str:
        return f"key={self.table.key} delete_by={self.table.delete_by}: {self.ddl}"


@st.composite
def _reference(draw: st.DrawFn, *targets: str) -> str:
    """Draw a REFERENCES clause with actions, immediate or deferred."""
    clause = f"REFERENCES {draw(st.sampled_from(targets))}"
    for event in ("DELETE", "UPDATE"):
        if action := draw(st.sampled_from(_ACTIONS)):
            clause += f" ON {event} {action}"
    return clause + draw(st.sampled_from(["", "", " DEFERRABLE INITIALLY DEFERRED"]))


@st.composite
def schemas(draw: st.DrawFn, *, coalesce: bool) -> Schema:
    """Draw a schema, with a table `t` that has a key or is append-only.

    With coalescing, it has a key and nothing that drops or writes rows on its own, except the
    actions of foreign keys.
    """
    has_key = coalesce or draw(st.booleans())
    key = draw(
        st.sampled_from(
            ["k INTEGER PRIMARY KEY", "k INT UNIQUE, id INTEGER PRIMARY KEY AUTOINCREMENT"]
            if has_key
            else ["k INT UNIQUE", "k INT UNIQUE, id INTEGER PRIMARY KEY AUTOINCREMENT"]
        )
    )
    conflicts = ["", "", "", "", " ON CONFLICT REPLACE", " ON CONFLICT ROLLBACK"]
    conflict = "" if coalesce else draw(st.sampled_from(conflicts))
    u = draw(st.sampled_from(["", "UNIQUE" + conflict, "CHECK (u <> 1)", "NOT NULL" + conflict]))
    targets = ["t (k)", "t (k)", "p (id)", "c (id)"] + ["t (u)"] * u.startswith("UNIQUE")
    r = draw(st.just("") | _reference(*targets))
    tk = draw(st.just("") | _reference("t (k)"))
    most = 0 if coalesce else 2
    triggers = draw(st.lists(st.sampled_from(_TRIGGERS), max_size=most, unique=True))
    ddl = [
        f"CREATE TABLE t ({key}, u INT DEFAULT 1 {u}, r INT DEFAULT 2 {r})",
        "CREATE TABLE p (id INTEGER PRIMARY KEY, v)",
        f"CREATE TABLE c (id INTEGER PRIMARY KEY AUTOINCREMENT, tk INT DEFAULT 3 {tk})",
        "CREATE TABLE log (a, b, c)",
        "CREATE VIEW sequences AS SELECT seq FROM sqlite_sequence WHERE name = 't'",
        "INSERT INTO p VALUES (1, 0), (2, 0)",
        "INSERT INTO c VALUES (1, NULL), (2, NULL)",
        *draw(st.sampled_from([[], ["INSERT INTO t (k, u, r) VALUES (1, 4, NULL), (3, 5, 1)"]])),
        *draw(st.sampled_from([[], ["INSERT INTO c VALUES (3, 1), (4, 2)"]])),
        *(f"CREATE TRIGGER trigger_{i} {sql}" for i, sql in enumerate(triggers)),
        *draw(st.sampled_from([[], ["PRAGMA recursive_triggers = 1"]])),
    ]
    table = Table.from_columns(
        {"k": int, "u": int | None, "r": int | None},
        name="t",
        key="k" if has_key else None,
        delete_by=draw(st.sampled_from([None, "u", "r"])),
        coalesce=coalesce,
    )
    return Schema(";\n".join(ddl), table)


KEYS = st.integers(1, 7)
VALUES = st.none() | st.integers(1, 7)


def _identity(operation: Operation) -> Any:
    match operation:
        case Write(row):
            return row[0]
        case Update(key, _) | Delete(key):
            return key
        case DeleteBy(value):
            return value


@st.composite
def operations(draw: st.DrawFn, table: Table[Any]) -> list[Operation]:
    """Draw runs of operations of the same kind: some share a statement, which takes five of them.

    The keys of a run often differ, so that the table often accepts all of them.
    """
    found: list[Operation] = []
    for _ in range(draw(st.integers(1, 3))):
        kinds: list[type[Operation]] = [Write]
        if table.key:
            kinds += [Update, Delete]
        if table.delete_by:
            kinds.append(DeleteBy)
        kind = draw(st.sampled_from(kinds))
        one: st.SearchStrategy[Operation]
        if kind is Write:
            one = st.builds(Write, st.tuples(KEYS, VALUES, VALUES))
        elif kind is Update:
            names = draw(st.sampled_from([("u",), ("r",), ("r", "u")]))
            one = st.builds(Update, KEYS, st.fixed_dictionaries(dict.fromkeys(names, VALUES)))
        else:
            one = st.builds(kind, KEYS)
        distinct = draw(st.sampled_from([_identity, None]))
        size = draw(st.sampled_from([5, 6, 1, 2]))
        found += draw(st.lists(one, min_size=size, max_size=size, unique_by=distinct))
    return found
