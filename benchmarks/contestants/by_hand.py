"""Contestants with SQL written by hand and no event loop: the standard `sqlite3`, and `apsw`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import Any

import apsw

from benchmarks.workload import Workload

EXECUTEMANY_ROWS = 1_000
"""Rows per transaction of the `executemany` loops: the usual advice."""
MULTI_ROW_ROWS = 20_000
"""Rows per transaction of the multi-row loops: forebay's default."""
STATEMENT_ROWS = 2_000
"""Rows per multi-row statement, if SQLite's limit of parameters allows it."""


def connect(path: Path, synchronous: str = "NORMAL") -> sqlite3.Connection:
    """Open a connection with the settings of all contestants."""
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute(f"PRAGMA synchronous = {synchronous}")
    return raw


def executemany(path: Path, work: Workload) -> float:
    """Write with `executemany`, 1,000 rows per transaction: what most programs do."""
    with closing(connect(path)) as raw:
        return _executemany(raw, work)


def apsw_executemany(path: Path, work: Workload) -> float:
    """Write with apsw's `executemany`, 1,000 rows per transaction."""
    with closing(_connect_apsw(path)) as raw:
        return _executemany(raw, work)


def _executemany(raw: sqlite3.Connection | apsw.Connection, work: Workload) -> float:
    sql = work.upsert()
    started = perf_counter()
    for start in range(0, len(work.rows), EXECUTEMANY_ROWS):
        raw.execute("BEGIN IMMEDIATE")
        raw.executemany(sql, work.rows[start : start + EXECUTEMANY_ROWS])
        raw.execute("COMMIT")
    return perf_counter() - started


def row_by_row(path: Path, work: Workload) -> float:
    """Write one row per transaction."""
    sql = work.upsert()
    with closing(connect(path)) as raw:
        started = perf_counter()
        for row in work.rows:
            raw.execute(sql, row)
        return perf_counter() - started


def multi_row(path: Path, work: Workload, batch: int = MULTI_ROW_ROWS) -> float:
    """Write as fast as possible: many rows per statement, coalesced, sorted by key."""
    with closing(connect(path)) as raw:
        return _multi_row(raw, work, raw.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER), batch)


def apsw_multi_row(path: Path, work: Workload) -> float:
    """Write with apsw, many rows per statement, coalesced, sorted by key."""
    with closing(_connect_apsw(path)) as raw:
        variables = raw.limit(apsw.SQLITE_LIMIT_VARIABLE_NUMBER)
        return _multi_row(raw, work, variables, MULTI_ROW_ROWS)


def _multi_row(
    raw: sqlite3.Connection | apsw.Connection, work: Workload, variables: int, batch: int
) -> float:
    statement_rows = min(STATEMENT_ROWS, variables // len(work.columns))
    full = work.upsert(statement_rows)
    started = perf_counter()
    for start in range(0, len(work.rows), batch):
        rows = _coalesced(work.rows[start : start + batch])
        raw.execute("BEGIN IMMEDIATE")
        for chunk in _chunks(rows, statement_rows):
            sql = full if len(chunk) == statement_rows else work.upsert(len(chunk))
            raw.execute(sql, tuple(chain.from_iterable(chunk)))
        raw.execute("COMMIT")
    return perf_counter() - started


def _connect_apsw(path: Path) -> apsw.Connection:
    raw = apsw.Connection(str(path))
    raw.execute("PRAGMA synchronous = NORMAL")
    return raw


def _coalesced(rows: Sequence[Any]) -> list[Any]:
    return sorted({row[0]: row for row in rows}.values())


def _chunks(rows: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
