"""Contestants with other libraries: the use each documents first, and the fastest it documents.

A function whose name ends in `_rows` writes one row per transaction. An asyncio library runs on
asyncio, an anyio library on Trio.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, closing
from pathlib import Path
from time import perf_counter
from typing import Any

import aiosqlite
import anyio
import apsw
import peewee
import sqlalchemy
import sqlite_anyio
import sqlite_utils
import trio
from playhouse.sqliteq import SqliteQueueDatabase
from sqlalchemy.dialects.sqlite import Insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from benchmarks.workload import Workload

BATCH = 1_000
"""Rows per transaction, for the functions that write many."""


def aiosqlite_rows(path: Path, work: Workload) -> float:
    """Call `execute` and `commit` for each row."""

    async def main() -> float:
        sql = work.upsert()
        async with aiosqlite.connect(path) as db:
            await db.execute("PRAGMA synchronous = NORMAL")
            started = perf_counter()
            for row in work.rows:
                await db.execute(sql, row)
                await db.commit()
            return perf_counter() - started

    return asyncio.run(main())


def aiosqlite_executemany(path: Path, work: Workload) -> float:
    """Call `executemany` and `commit` for each 1,000 rows."""

    async def main() -> float:
        sql = work.upsert()
        async with aiosqlite.connect(path) as db:
            await db.execute("PRAGMA synchronous = NORMAL")
            started = perf_counter()
            for rows in _batches(work.rows):
                await db.executemany(sql, rows)
                await db.commit()
            return perf_counter() - started

    return asyncio.run(main())


def sqlite_anyio_rows(path: Path, work: Workload) -> float:
    """Call `execute` and `commit` for each row, on Trio."""

    async def main() -> float:
        sql = work.upsert()
        db = await sqlite_anyio.connect(str(path))
        try:
            await db.execute("PRAGMA synchronous = NORMAL")
            started = perf_counter()
            for row in work.rows:
                await db.execute(sql, row)
                await db.commit()
            return perf_counter() - started
        finally:
            await db.close()

    return anyio.run(main, backend="trio")


def sqlite_anyio_executemany(path: Path, work: Workload) -> float:
    """Call `executemany` and `commit` for each 1,000 rows, on Trio."""

    async def main() -> float:
        sql = work.upsert()
        db = await sqlite_anyio.connect(str(path))
        try:
            await db.execute("PRAGMA synchronous = NORMAL")
            cursor = await db.cursor()
            started = perf_counter()
            for rows in _batches(work.rows):
                await cursor.executemany(sql, rows)
                await db.commit()
            return perf_counter() - started
        finally:
            await db.close()

    return anyio.run(main, backend="trio")


def apsw_aio_executemany(path: Path, work: Workload) -> float:
    """Call `executemany` with all rows in one transaction, on Trio."""

    async def main() -> float:
        sql = work.upsert()
        async with aclosing(await apsw.Connection.as_async(str(path))) as db:
            await db.pragma("synchronous", "NORMAL")
            started = perf_counter()
            async with db:
                await db.executemany(sql, work.rows)
            return perf_counter() - started

    return trio.run(main)


def peewee_queue_rows(path: Path, work: Workload) -> float:
    """Insert one row per query through the queue of peewee's writer thread, and wait for it."""

    def write(model: type[Any]) -> None:
        for row in work.dicts:
            _upserting(model, model.insert(row)).execute()

    return _peewee(path, work, write)


def peewee_queue_insert_many(path: Path, work: Workload) -> float:
    """Call `insert_many` for each 1,000 rows, through the queue of peewee's writer thread."""

    def write(model: type[Any]) -> None:
        for rows in _batches(work.dicts):
            _upserting(model, model.insert_many(rows)).execute()

    return _peewee(path, work, write)


def _peewee(path: Path, work: Workload, write: Callable[[type[Any]], None]) -> float:
    fields = {"TEXT": peewee.TextField, "REAL": peewee.FloatField, "INTEGER": peewee.IntegerField}
    database = SqliteQueueDatabase(path, pragmas={"synchronous": "NORMAL"})
    attributes: dict[str, Any] = {
        name: fields[kind](unique=name == work.columns[0]) for name, kind in work.types.items()
    }
    attributes["Meta"] = type("Meta", (), {"database": database, "table_name": work.name})
    model = type("Entry", (peewee.Model,), attributes)
    try:
        _ = work.dicts  # computed before the clock starts
        started = perf_counter()
        write(model)
        return perf_counter() - started
    finally:
        database.stop()
        database.close()


def _upserting(model: type[Any], insert: Any) -> Any:
    meta = model._meta  # noqa: SLF001  # peewee documents this way to a model's fields
    key, *others = [field for field in meta.sorted_fields if field.name != "id"]
    return insert.on_conflict(conflict_target=[key], preserve=others).as_rowcount()


def sqlalchemy_rows(path: Path, work: Workload) -> float:
    """Call `execute` and `commit` for each row, on SQLAlchemy's asyncio engine."""

    async def main() -> float:
        statement = _statement(work)
        rows = work.dicts
        engine = _engine(path)
        async with engine.connect() as connection:
            started = perf_counter()
            for row in rows:
                await connection.execute(statement, row)
                await connection.commit()
            taken = perf_counter() - started
        await engine.dispose()
        return taken

    return asyncio.run(main())


def sqlalchemy_executemany(path: Path, work: Workload) -> float:
    """Call `execute` with 1,000 rows and `commit`, on SQLAlchemy's asyncio engine."""

    async def main() -> float:
        statement = _statement(work)
        rows = work.dicts
        engine = _engine(path)
        async with engine.connect() as connection:
            started = perf_counter()
            for batch in _batches(rows):
                await connection.execute(statement, batch)
                await connection.commit()
            taken = perf_counter() - started
        await engine.dispose()
        return taken

    return asyncio.run(main())


def _engine(path: Path) -> AsyncEngine:
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")

    def set_pragma(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.close()

    sqlalchemy.event.listen(engine.sync_engine, "connect", set_pragma)
    return engine


def _statement(work: Workload) -> Insert:
    columns = [sqlalchemy.column(name) for name in work.columns]
    insert = sqlite_insert(sqlalchemy.table(work.name, *columns))
    key, *others = work.columns
    return insert.on_conflict_do_update(
        index_elements=[key], set_={name: insert.excluded[name] for name in others}
    )


def sqlite_utils_insert_all(path: Path, work: Workload) -> float:
    """Call `insert_all(replace=True)` with its default batch size."""
    return _sqlite_utils(path, work)


def sqlite_utils_batches(path: Path, work: Workload) -> float:
    """Call `insert_all(replace=True)` with 1,000 rows per batch."""
    return _sqlite_utils(path, work, batch_size=BATCH)


def _sqlite_utils(path: Path, work: Workload, **options: Any) -> float:
    rows = work.dicts
    database = sqlite_utils.Database(path)
    with closing(database):
        database.execute("PRAGMA synchronous = NORMAL")
        started = perf_counter()
        database.table(work.name).insert_all(rows, replace=True, **options)
        return perf_counter() - started


def _batches(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH]
