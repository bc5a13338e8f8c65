"""A database whose tables refuse rows, for the tests of dead letters."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, NamedTuple

import forebay
from forebay import Sum, Table, dead_letters, open_buffers, open_sqlite


class Visit(NamedTuple):
    page: str
    at: int | None


VISITS = Table(Visit, name="visits")
PAGES = Table.from_columns({"url": str, "hits": int}, name="pages", key="url", merge={"hits": Sum})

DDL = """
    CREATE TABLE pages (url TEXT PRIMARY KEY, hits INTEGER CHECK (hits < 100));
    CREATE TABLE visits (page TEXT REFERENCES pages (url), at INTEGER NOT NULL);
"""


def execute(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(script)


def rows(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as raw:
        return raw.execute(query).fetchall()


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[forebay.SqliteStore]:
    """Open the database with foreign keys enforced."""
    async with open_sqlite(path, pragmas={"foreign_keys": 1}) as store:
        yield store


async def enqueue_refused(store: forebay.SqliteStore, *visits: Visit) -> None:
    """Enqueue visits that become dead letters."""
    async with open_buffers(store, VISITS) as buffers:
        await buffers[VISITS].enqueue_many(visits)


async def ids(store: forebay.SqliteStore, **selection: Any) -> list[int]:
    """Return the ids of the dead letters."""
    return [letter.id for letter in await dead_letters.fetch(store, **selection)]
