"""Build the SQL statements for the steps of a batch.

Each statement has many rows. Between two statements the thread releases the GIL and must acquire
it again, which takes long beside a busy event loop: with one statement per row, a flush of some
thousand rows takes seconds. The number of rows per statement is one of a few sizes, so that SQLite
can reuse prepared statements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from forebay._batching.batch import DeleteByStep, DeleteStep, Step, UpdateStep, WriteStep
from forebay._table.columns import Column
from forebay._table.merge import Merge
from forebay._table.operations import Row
from forebay._table.table import Table, is_coalesced, key_getter, select_columns, value_columns
from forebay.stores.sqlite._sorting import sort_rows

STATEMENT_SIZES: Final = (1000, 500, 100, 20, 5, 1)
"""The numbers of rows that a statement may have. The largest that fits is used first.

To prepare a statement takes about as long as to write its rows twice, once per table. Beside an
idle event loop, more than 100 rows per statement are hardly faster; beside a busy one they are,
since the thread waits for the GIL after each statement: `nox -s bench -- row_by_row`.
"""

_MOST_PARAMETERS: Final = 5_000
"""The most parameters of a statement. SQLite needs some 90 bytes for each as long as it is open."""

_MAX_OR_TERMS: Final = 100
"""The most terms in a chain of OR. SQLite plans each of them; it allows a depth of 1,000."""


def quoted(name: str) -> str:
    """Return a quoted identifier. The name may have any characters."""
    return '"' + name.replace('"', '""') + '"'


def in_main(name: str) -> str:
    """Return the quoted name of a table of the file, also if a TEMP table has the same name.

    SQLite looks up a name without a schema among the TEMP tables first.
    """
    return f"main.{quoted(name)}"


def quoted_list(names: Iterable[str]) -> str:
    """Return quoted identifiers, separated by commas."""
    return ", ".join(map(quoted, names))


def placeholders(rows: int, columns: int) -> str:
    row = f"({','.join('?' * columns)})"
    return ",".join([row] * rows)


def existing_value(column: Column) -> str:
    """Return the SQL for a column of the existing row, which compares as Python compares."""
    name = f"old.{quoted(column.name)}"
    return f"{name} COLLATE BINARY" if column.storage is str else name


def _merge_sql(column: Column) -> str:
    """Return the assignment that merges a column on conflict, as `Merge.combine` does in memory."""
    old, new = f"old.{quoted(column.name)}", f"excluded.{quoted(column.name)}"
    if column.merge is Merge.REPLACE:
        value = new
    elif column.merge is Merge.SUM:
        value = f"COALESCE({old} + {new}, {old}, {new})"
    else:
        value = f"COALESCE({column.merge.value}({existing_value(column)}, {new}), {old}, {new})"
    return f"{quoted(column.name)} = {value}"


# Every statement has the alias `old` for its table and qualifies column names with it. The table's
# own name could be `new` or `excluded`. And if a column is missing because the table was changed,
# a qualified name is an error, but an unqualified quoted name is a string to SQLite:
# `WHERE "id" IN ('id')` would be true for every row.


@lru_cache(maxsize=4096)
def write_sql(table: Table[Any], rows: int) -> str:
    """Return the SQL that inserts rows and merges each into the existing row of its key."""
    names = [column.name for column in table.columns]
    insert = (
        f"INSERT INTO {in_main(table.name)} AS old ({quoted_list(names)}) "
        f"VALUES {placeholders(rows, len(names))}"
    )
    if not table.key:
        return insert
    merged = [column for column in value_columns(table) if column.merge is not Merge.KEEP]
    action = f"DO UPDATE SET {', '.join(map(_merge_sql, merged))}" if merged else "DO NOTHING"
    # The index must be the one under BINARY: the key may also be unique under another collation.
    target = ", ".join(
        quoted(column.name) + (" COLLATE BINARY" if column.storage is str else "")
        for column in select_columns(table, table.key)
    )
    return f"{insert} ON CONFLICT ({target}) {action}"


@lru_cache(maxsize=4096)
def update_sql(table: Table[Any], columns: tuple[str, ...], rows: int) -> str:
    """Return the SQL that sets columns of rows; its parameters are a key and values per row."""
    # SQLite names the columns of VALUES column1, column2, …
    key_columns = enumerate(select_columns(table, table.key), start=1)
    match = " AND ".join(f"{existing_value(column)} = new.column{i}" for i, column in key_columns)
    first = len(table.key) + 1
    changes = ", ".join(
        f"{quoted(name)} = new.column{i}" for i, name in enumerate(columns, start=first)
    )
    return (
        f"UPDATE {in_main(table.name)} AS old SET {changes} "
        f"FROM (VALUES {placeholders(rows, len(table.key) + len(columns))}) AS new WHERE {match}"
    )


@lru_cache(maxsize=4096)
def delete_sql(table: Table[Any], columns: tuple[str, ...], rows: int) -> str:
    """Return the SQL that deletes the rows with these values in these columns."""
    start = f"DELETE FROM {in_main(table.name)} AS old WHERE "
    terms = [existing_value(column) for column in select_columns(table, columns)]
    if len(terms) == 1:
        return f"{start}{terms[0]} IN ({','.join('?' * rows)})"
    # Not (a, b) IN (VALUES …): for that, SQLite 3.40 scans the table.
    row = "(" + " AND ".join(f"{term} = ?" for term in terms) + ")"
    return start + " OR ".join([row] * rows)


class Statement(NamedTuple):
    """The SQL and the parameters for some rows of a step."""

    sql: str
    parameters: Sequence[Any]


def step_sql(table: Table[Any], step: Step, rows: int) -> str:
    """Return the SQL of a step for this number of rows."""
    match step:
        case WriteStep():
            return write_sql(table, rows)
        case UpdateStep(columns):
            return update_sql(table, columns, rows)
        case DeleteStep():
            return delete_sql(table, table.key, rows)
        case DeleteByStep():  # pragma: no branch  # the last kind
            return delete_sql(table, (str(table.delete_by),), rows)


def step_width(table: Table[Any], step: Step) -> int:
    """Return the number of parameters per row in the SQL of a step."""
    match step:
        case WriteStep():
            return len(table.columns)
        case UpdateStep(columns):
            return len(table.key) + len(columns)
        case DeleteStep():
            return len(table.key)
        case DeleteByStep():  # pragma: no branch  # the last kind
            return 1


def statements(
    table: Table[Any], step: Step, *, variables: int, shared_inserts: bool = True
) -> Iterable[Statement]:
    """Return the statements of a step.

    An UPDATE or DELETE has many rows only if the table is coalesced: SQLite executes the rows in an
    order of its own, and checks constraints in between.

    Args:
        table: the table.
        step: the step of a batch.
        variables: the largest number of parameters that a statement may have.
        shared_inserts: whether rows may share an INSERT.
    """
    if isinstance(step, WriteStep) and len(step) == 1:  # as after `write`: nothing to divide
        return (Statement(write_sql(table, 1), step.rows[0]),)
    width = step_width(table, step)
    shared = shared_inserts if isinstance(step, WriteStep) else is_coalesced(table)
    limit = min(variables, _MOST_PARAMETERS) // width if shared else 1
    match step:
        case WriteStep(rows):
            # Rows with neighbouring keys are on the same page of the B-tree.
            sort = len(rows) > 1 and is_coalesced(table)
            flat = sort_rows(rows, key_getter(table)) if sort else rows
        case UpdateStep(_, updates):
            composite = len(table.key) > 1
            flat = [(*(key if composite else (key,)), *values) for key, values in updates]
        case DeleteStep(keys):
            flat = keys if width > 1 else [(key,) for key in keys]
            limit = limit if width == 1 else min(limit, _MAX_OR_TERMS)
        case DeleteByStep(values):  # pragma: no branch  # the last kind
            flat = [(value,) for value in values]
    return _split(lambda n: step_sql(table, step, n), flat, limit)


def _split(sql_of: Callable[[int], str], rows: Sequence[Row], limit: int) -> Iterator[Statement]:
    start = 0
    for size in STATEMENT_SIZES:
        if size > limit and size > 1:
            continue
        sql = sql_of(size) if len(rows) - start >= size else ""
        while len(rows) - start >= size:
            part = rows[start : start + size]
            parameters: list[Any] = []
            for row in part:
                parameters += row  # itertools.chain takes twice as long
            yield Statement(sql, parameters)
            start += size
