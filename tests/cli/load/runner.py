"""Run `forebay load`, and look at the database a.db in the current folder."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from forebay.cli._command import command


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(command, ["load", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def load(content: str | bytes, *arguments: str, name: str = "in.csv") -> Result:
    """Load a file with this content into table t of a.db."""
    data = content.encode() if isinstance(content, str) else content
    Path(name).write_bytes(data)
    return run(name, "--database", "a.db", "--table", "t", *arguments)


def query(sql: str) -> list[Any]:
    with closing(sqlite3.connect("a.db")) as connection:
        return connection.execute(sql).fetchall()


def execute(sql: str) -> None:
    with closing(sqlite3.connect("a.db")) as connection:
        connection.executescript(sql)


def wait_for(process: subprocess.Popen[bytes], text: str) -> None:
    """Read the messages of a running load until one contains the text."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line.decode())
        if text in lines[-1]:
            return
    pytest.fail(f"the load ended without the message {text!r}: {lines}")


@contextmanager
def locked() -> Iterator[None]:
    """Hold the write lock of the database, as another program may."""
    with closing(sqlite3.connect("a.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
