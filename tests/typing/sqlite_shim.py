# pyright: strict
"""The types that mypy and pyright must infer for `forebay.sqlite`. Checked, never run."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, assert_type

from forebay import sqlite


def fn(raw: sqlite3.Connection, name: str, count: int) -> list[str]:
    raise NotImplementedError


async def calls() -> None:
    async with sqlite.connect(Path("a.db"), pragmas={"journal_mode": "wal"}) as connection:
        assert_type(connection, sqlite.Connection)
        assert_type(await connection.run(fn, "a", 1), list[str])
        assert_type(await connection.transaction(fn, "a", 1), list[str])
        await connection.run(fn, 1, "a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        await connection.transaction(fn, "a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert_type(await connection.execute("", {"a": 1}), sqlite.Result)
        assert_type(await connection.fetch_all("", [1]), list[tuple[Any, ...]])
        assert_type(await connection.fetch_one(""), tuple[Any, ...] | None)
        assert_type(connection.statistics(), sqlite.ConnectionStatistics)
    assert_type(await sqlite.Connection.open("a.db"), sqlite.Connection)


def in_this_thread(raw: sqlite3.Connection) -> None:
    assert_type(sqlite.transact(raw, fn, "a", 1), list[str])
