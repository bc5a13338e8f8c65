"""The tables that the programs write and the tests read: one of each kind."""

from __future__ import annotations

from typing import NamedTuple

import forebay


class Entry(NamedTuple):
    """A row with a key. Rows of one group are accepted together, so they are committed together."""

    key: str
    grp: int
    value: int


class Event(NamedTuple):
    """A row of a table without a key."""

    source: str
    number: int


class Total(NamedTuple):
    """A sum by name."""

    name: str
    n: int


ENTRIES = forebay.Table(Entry, name="entries", key="key")
EVENTS = forebay.Table(Event, name="events")
TOTALS = forebay.Table(Total, name="totals", key="name", merge={"n": forebay.Sum})

TABLES = (ENTRIES, EVENTS, TOTALS)

PATIENT = forebay.BufferOptions(
    flush_interval=3600.0,  # no flush by time, only by request
    drain_timeout=60.0,
    retry=forebay.RetryPolicy(initial_delay=0.001, max_delay=0.01),
)
