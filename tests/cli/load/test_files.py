"""Files as people have them load as a person expects, or are refused with a message that helps."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from forebay.cli._command import command
from tests.cli.load.files import FILES, SPECTRUM, InputFile


def table_of(database: Path) -> tuple[str, list[Any]]:
    """Return the columns and rows of table t; no columns if it does not exist."""
    if not database.exists():
        return "", []
    with closing(sqlite3.connect(database)) as connection:
        columns = connection.execute("SELECT name, type FROM pragma_table_info('t')").fetchall()
        rows = connection.execute("SELECT * FROM t ORDER BY rowid").fetchall()
    return ", ".join(f"{name} {type_}" for name, type_ in columns), rows


@pytest.mark.parametrize("file", [*FILES, *SPECTRUM], ids=lambda file: file.what.replace(" ", "-"))
def test_a_file_loads_as_expected(file: InputFile, tmp_path: Path) -> None:
    """The table has the expected columns, types and values, and the message says what to do."""
    path = tmp_path / file.name
    path.write_bytes(file.data)
    database = tmp_path / "a.db"
    arguments = ["load", str(path), "--database", str(database), "--table", "t", *file.arguments]
    result = CliRunner().invoke(command, arguments)
    assert file.message in " ".join(result.stderr.split())
    columns, rows = table_of(database)
    assert (file.exit_code, file.columns) == (result.exit_code, columns)
    assert [[(value, type(value)) for value in row] for row in file.rows] == [
        [(value, type(value)) for value in row] for row in rows
    ]


def test_there_are_fifty_files_or_more() -> None:
    """And the twelve of csv-spectrum."""
    assert (True, 12) == (len(FILES) >= 50, len(SPECTRUM))
