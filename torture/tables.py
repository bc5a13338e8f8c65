"""The tables of a torture session, one per kind of table, and what each step does to them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, TypeAlias

import forebay
from forebay.stores.sqlite._ddl import create_sql


class Slot(NamedTuple):
    """The only row of a producer, which is written, updated, written again and deleted in turn."""

    key: str
    step: int
    note: str | None


class Event(NamedTuple):
    """One of the rows of a producer in an append-only table."""

    producer: str
    step: int


class Total(NamedTuple):
    """The number of steps of a producer, as a sum, and its last step."""

    producer: str
    n: int
    last: int


class Strict(NamedTuple):
    """A row that the table refuses if its value is 0."""

    key: str
    value: int


SLOTS = forebay.Table(Slot, name="slots", key="key")
EVENTS = forebay.Table(Event, name="events")
TOTALS = forebay.Table(
    Total, name="totals", key="producer", merge={"n": forebay.Sum, "last": forebay.Max}
)
STRICT = forebay.Table(Strict, name="strict", key="key")
TABLES = (SLOTS, EVENTS, TOTALS, STRICT)

SlotState: TypeAlias = tuple[int, str | None] | None
"""The columns of a slot except its key; None if the slot does not exist."""


def slot_after(step: int) -> SlotState:
    """Return the state of a slot after all steps up to this one."""
    if step < 0:
        return None
    return [(step, None), (step - 1, str(step)), (step, "again"), None][step % 4]


def enqueue_slot(slots: forebay.Buffer[Slot], key: str, step: int) -> None:
    """Enqueue the operation of a step on its slot."""
    match step % 4:
        case 0:
            slots.enqueue_nowait(Slot(key, step, None))
        case 1:
            slots.enqueue_update_nowait(key, note=str(step))
        case 2:
            slots.enqueue_nowait(Slot(key, step, "again"))
        case _:
            slots.enqueue_delete_nowait(key)


def create_database(path: Path) -> None:
    """Create the database, with a constraint that is not part of a declaration."""
    with closing(sqlite3.connect(path)) as raw:
        for table in (SLOTS, EVENTS, TOTALS):
            raw.execute(create_sql(table))
        raw.executescript("""
            CREATE TABLE strict (key TEXT PRIMARY KEY, value INTEGER CHECK (value <> 0));
            CREATE TABLE rivals (name TEXT);
        """)
