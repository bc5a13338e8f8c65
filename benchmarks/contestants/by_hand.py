"""SQL written by hand, without an event loop: the standard library's `sqlite3`, and `apsw`."""

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
"""Rows a transaction: the usual advice."""
MULTI_ROW_ROWS = 20_000
"""Rows a transaction: as forebay has by default."""
STATEMENT_ROWS = 2_000
"""Rows a multi-row statement, where the limit of parameters allows."""


def connect(path: Path, synchronous: str = "NORMAL") -> sqlite3.Connection:
    """Open a connection as everybody here has it."""
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute(f"PRAGMA synchronous = {synchronous}")
    return raw


def executemany(path: Path, work: Workload) -> float:
    """Write as most do who care: `executemany`, a thousand rows a transaction."""
    sql = work.upsert()
    with closing(connect(path)) as raw:
        started = perf_counter()
        for start in range(0, len(work.rows), EXECUTEMANY_ROWS):
            raw.execute("BEGIN IMMEDIATE")
            raw.executemany(sql, work.rows[start : start + EXECUTEMANY_ROWS])
            raw.execute("COMMIT")
        return perf_counter() - started


def row_by_row(path: Path, work: Workload) -> float:
    """Write a row a transaction."""
    sql = work.upsert()
    with closing(connect(path)) as raw:
        started = perf_counter()
        for row in work.rows:
            raw.execute(sql, row)
        return perf_counter() - started


def multi_row(path: Path, work: Workload, batch: int = MULTI_ROW_ROWS) -> float:
    """Write as fast as this machine can: many rows a statement, coalesced, sorted by key."""
    with closing(connect(path)) as raw:
        at_once = _statement_rows(work, raw.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER))
        full = work.upsert(at_once)
        started = perf_counter()
        for start in range(0, len(work.rows), batch):
            rows = _coalesced(work.rows[start : start + batch])
            raw.execute("BEGIN IMMEDIATE")
            for part in _parts(rows, at_once):
                sql = full if len(part) == at_once else work.upsert(len(part))
                raw.execute(sql, list(chain.from_iterable(part)))
            raw.execute("COMMIT")
        return perf_counter() - started


def apsw_executemany(path: Path, work: Workload) -> float:
    """Write with apsw's `executemany`, a thousand rows a transaction."""
    sql = work.upsert()
    with closing(apsw.Connection(str(path))) as raw:
        raw.execute("PRAGMA synchronous = NORMAL")
        started = perf_counter()
        for start in range(0, len(work.rows), EXECUTEMANY_ROWS):
            raw.execute("BEGIN IMMEDIATE")
            raw.executemany(sql, work.rows[start : start + EXECUTEMANY_ROWS])
            raw.execute("COMMIT")
        return perf_counter() - started


def apsw_multi_row(path: Path, work: Workload) -> float:
    """Write with apsw, many rows a statement, coalesced, sorted by key."""
    with closing(apsw.Connection(str(path))) as raw:
        raw.execute("PRAGMA synchronous = NORMAL")
        at_once = _statement_rows(work, raw.limit(apsw.SQLITE_LIMIT_VARIABLE_NUMBER))
        full = work.upsert(at_once)
        started = perf_counter()
        for start in range(0, len(work.rows), MULTI_ROW_ROWS):
            rows = _coalesced(work.rows[start : start + MULTI_ROW_ROWS])
            raw.execute("BEGIN IMMEDIATE")
            for part in _parts(rows, at_once):
                sql = full if len(part) == at_once else work.upsert(len(part))
                raw.execute(sql, tuple(chain.from_iterable(part)))
            raw.execute("COMMIT")
        return perf_counter() - started


def _statement_rows(work: Workload, variables: int) -> int:
    return min(STATEMENT_ROWS, variables // len(work.columns))


def _coalesced(rows: Sequence[Any]) -> list[Any]:
    return sorted({row[0]: row for row in rows}.values())


def _parts(rows: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
