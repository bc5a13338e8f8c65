"""A database with dead letters in the current folder, and the command that works on it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

import trio
from click.testing import CliRunner, Result

import forebay
from forebay import Table
from forebay.cli._command import command

VISITS = Table.from_columns({"page": str, "at": int | None}, name="visits")

DDL = """
    CREATE TABLE pages (url TEXT PRIMARY KEY);
    CREATE TABLE visits (page TEXT REFERENCES pages (url), at INTEGER NOT NULL);
"""


def make_database() -> None:
    """Make `site.db` with letters 1 and 2, whose pages are missing, and 3, which has no time."""
    execute(DDL)

    async def enqueue_refused() -> None:
        async with (
            forebay.open_sqlite("site.db", pragmas={"foreign_keys": 1}) as store,
            forebay.open_buffers(store, VISITS) as buffers,
        ):
            await buffers[VISITS].enqueue_many([("/", 1), ("/a\x1b[31m", 2), ("/", None)])

    trio.run(enqueue_refused)
    execute("UPDATE forebay_dead_letters SET failed_at = 1700000000 + id")


def execute(script: str) -> None:
    with closing(sqlite3.connect("site.db")) as raw:
        raw.executescript(script)


def rows(query: str) -> list[Any]:
    with closing(sqlite3.connect("site.db")) as raw:
        return raw.execute(query).fetchall()


def left() -> list[int]:
    """Return the ids of the letters that are left."""
    return [letter for (letter,) in rows("SELECT id FROM forebay_dead_letters ORDER BY id")]


def run(*arguments: str, answer: str | None = None) -> Result:
    """Run `forebay dead-letters`."""
    result = CliRunner().invoke(command, ["dead-letters", *arguments], input=answer)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def document(*arguments: str, exit_code: int = 0) -> Any:
    """Run it with `--json`, and return the document that it prints."""
    result = run(*arguments, "--json")
    assert exit_code == result.exit_code, result.output
    return json.loads(result.stdout)
