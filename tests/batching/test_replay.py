"""Pending entries replayed in memory give the row that the table has once they are executed."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from forebay import DeleteBy, Write
from forebay._batching.key_index import KeyIndex
from forebay._batching.replay import Replay
from forebay._table.operations import Entry, Operation
from forebay._table.table import key_getter
from tests import one_by_one
from tests.random_tables import Drawn, operations, tables

KEYED = tables().filter(lambda drawn: bool(drawn.table.key))


def entry_of(operation: Operation) -> Entry:
    """Return the entry that a buffer stores for an operation."""
    return operation.row if isinstance(operation, Write) else operation


def rows_by_key(drawn: Drawn, executed: list[Operation]) -> dict[Any, tuple[Any, ...]]:
    """Return the rows of the table by key after each operation was executed alone."""
    rows = one_by_one.rows_after(drawn.ddl, drawn.table, executed)
    return {key_getter(drawn.table)(row): row for row in rows}


def keys_of(drawn: Drawn, accepted: list[Operation]) -> set[Any]:
    """Return the keys that the operations name."""
    key_of = key_getter(drawn.table)
    return {
        key_of(operation.row) if isinstance(operation, Write) else operation.key
        for operation in accepted
        if not isinstance(operation, DeleteBy)
    }


@given(st.data())
def test_each_key_has_the_row_that_the_table_gets(data: st.DataObject) -> None:
    """From any position that the table is at, with any entries pending since an earlier one."""
    drawn = data.draw(KEYED)
    accepted = data.draw(operations(drawn))
    settled = data.draw(st.integers(0, len(accepted)), label="settled when the entries were read")
    position = data.draw(st.integers(settled, len(accepted)), label="position of the table")
    pending = [entry_of(operation) for operation in accepted[settled:]]
    index = KeyIndex(pending, first=settled + 1, key_of=key_getter(drawn.table))
    while index.indexed < index.last:
        index.extend(data.draw(st.integers(1, 5)))
    before, expected = rows_by_key(drawn, accepted[:position]), rows_by_key(drawn, accepted)
    replay = Replay(drawn.table)
    for key in keys_of(drawn, accepted):
        row = replay.run(
            before.get(key),
            index.entries_of(key, settled, len(accepted)),
            after=position,
            up_to=len(accepted),
            deletes_value=index.deletes_value,
        )
        assert row == expected.get(key), key


@given(st.data())
def test_a_deciding_entry_needs_no_row(data: st.DataObject) -> None:
    """From the last entry that decides, the result is the same whatever the table has."""
    drawn = data.draw(KEYED)
    accepted = data.draw(operations(drawn))
    index = KeyIndex(
        [entry_of(operation) for operation in accepted], first=1, key_of=key_getter(drawn.table)
    )
    index.extend(len(accepted))
    expected = rows_by_key(drawn, accepted)
    replay = Replay(drawn.table)
    for key in keys_of(drawn, accepted):
        entries = index.entries_of(key, 0, len(accepted))
        decided = replay.decided_from(entries)
        if decided is not None:
            row = replay.run(
                None,
                entries[decided:],
                after=entries[decided][0] - 1,
                up_to=len(accepted),
                deletes_value=index.deletes_value,
            )
            assert row == expected.get(key), key


def test_an_index_grows_with_its_list() -> None:
    """Entries that were appended are found once they are indexed."""
    entries: list[Entry] = [("a", 1)]
    index = KeyIndex(entries, first=5, key_of=lambda row: row[0])
    index.extend(10)
    entries.append(("a", 2))
    assert (index.indexed, index.last) == (5, 6)
    assert index.entries_of("a", 0, 9) == [(5, ("a", 1))]
    assert index.extend(10) == 1
    assert index.entries_of("a", 0, 9) == [(5, ("a", 1)), (6, ("a", 2))]
    assert index.entries_of("a", 5, 9) == [(6, ("a", 2))]
    assert index.entries_of("a", 0, 5) == [(5, ("a", 1))]
