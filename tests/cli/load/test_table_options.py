"""The options of `forebay load` that shape the table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cli.load.runner import execute, load, query

PEOPLE = "id,name,size\n1,Ada,1.5\n2,Bob,\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def columns() -> list[Any]:
    return query("SELECT name, type, [notnull], dflt_value FROM pragma_table_info('t')")


def test_a_new_table_has_the_properties_of_the_options() -> None:
    """Names are compared as SQLite compares them."""
    result = load(
        PEOPLE,
        *("--key", "id", "--not-null", "NAME", "--default", "Size", "2", "--strict"),
        *("--index", "name", "--index", "name,size"),
    )
    assert 0 == result.exit_code
    assert [
        ("id", "INTEGER", 1, None),
        ("name", "TEXT", 1, None),
        ("size", "REAL", 0, "2.0"),
    ] == columns()
    assert [("idx_t_name",), ("idx_t_name_size",)] == query(
        "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL ORDER BY name"
    )
    assert [(1,)] == query("SELECT strict FROM pragma_table_list WHERE name = 't'")
    assert [(1, "Ada", 1.5), (2, "Bob", None)] == query("SELECT * FROM t")


def test_a_row_without_a_value_that_must_not_be_null_is_malformed() -> None:
    """The error has its line, where the table would only refuse the row."""
    result = load(PEOPLE, "--not-null", "size")
    assert 2 == result.exit_code
    assert "in.csv, line 3: column 'size' is NOT NULL and has no value" in result.stderr
    assert [(1, "Ada", 1.5)] == query("SELECT * FROM t")


def test_an_object_without_a_key_has_the_default() -> None:
    """In a new table, and in the column of an existing one that declares it."""
    for _ in range(2):
        content = '{"id": 1, "v": "x", "n": 5}\n{"id": 2}\n'
        arguments = ["--default", "v", "none", "--default", "n", "7", "--key", "id"]
        assert 0 == load(content, *arguments, name="in.ndjson").exit_code
        assert [(1, "x", 5), (2, "none", 7)] == query("SELECT * FROM t")


def test_float_is_a_name_of_real() -> None:
    """As in sqlite-utils."""
    assert 0 == load("price\n1.10\n", "--type", "price", "float").exit_code
    assert [("price", "REAL")] == [column[:2] for column in columns()]


@pytest.mark.parametrize("strict", [(), ("--strict",)])
def test_alter_adds_the_columns_that_are_missing(strict: Sequence[str]) -> None:
    """Rows that exist have the default, or NULL. Other columns stay as they are."""
    execute("CREATE TABLE t (id INTEGER PRIMARY KEY, other TEXT); INSERT INTO t VALUES (1, 'o')")
    result = load(PEOPLE, "--key", "id")
    assert 2 == result.exit_code
    arguments = ["--default", "size", "9.5", "--index", "name", *strict]
    assert 0 == load(PEOPLE, "--key", "id", "--alter", *arguments).exit_code
    assert [("id", "INTEGER"), ("other", "TEXT"), ("name", "TEXT"), ("size", "REAL")] == [
        column[:2] for column in columns()
    ]
    assert [(1, "o", "Ada", 1.5), (2, None, "Bob", None)] == query("SELECT * FROM t")
    assert 0 == load("id\n3\n", "--key", "id", "--alter").exit_code
    assert [(3, None, None, 9.5)] == query("SELECT * FROM t WHERE id = 3")


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("name", ["in.ndjson", "in.json"])
def test_alter_adds_the_columns_of_keys_that_come_late(
    name: str, exists: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their types fit all values. A key that the table has, or that is always null, needs none."""
    monkeypatch.setattr("forebay.cli._load.plan.SAMPLE_ROWS", 1)
    monkeypatch.setattr("forebay.cli._load.lines.BLOCK_BYTES", 64)
    if exists:
        execute("CREATE TABLE t (a INTEGER, b TEXT)")
    late = [{"a": 1, "b": "x"}, {"a": 2, "n": 1, "z": None}, {"n": 1.5, "b": None}]
    rows = [{"a": 0}] * 20 + late
    lines = list(map(json.dumps, rows))
    content = f"[{','.join(lines)}]" if name == "in.json" else "\n".join(lines)
    result = load(content, name=name)
    assert 2 == result.exit_code
    assert "is unknown; expected keys of the first rows, or of the table; --alter" in result.stderr
    execute("DELETE FROM t")
    assert 0 == load(content, "--alter", name=name).exit_code
    assert [("a", "INTEGER"), ("b", "TEXT"), ("n", "REAL")] == [c[:2] for c in columns()]
    assert [(1, "x", None), (2, None, 1.0), (None, None, 1.5)] == query(
        "SELECT * FROM t LIMIT 3 OFFSET 20"
    )


def test_a_load_that_commits_nothing_takes_its_alterations_back() -> None:
    """Columns and indexes that it added are dropped."""
    execute("CREATE TABLE t (id INTEGER PRIMARY KEY CHECK (id < 0), v TEXT)")
    before = query("SELECT * FROM sqlite_schema")
    content = "id,v,w\n1,x,y\n"
    arguments = ["--alter", "--index", "w", "--index", "v", "--dead-letters-per-minute", "0"]
    assert 2 == load(content, "--key", "id", *arguments).exit_code
    assert before == query("SELECT * FROM sqlite_schema")


def test_truncate_deletes_the_rows_before() -> None:
    """Only when there is a row to load."""
    load(PEOPLE)
    result = load(PEOPLE, "--truncate")
    assert 0 == result.exit_code
    assert "rows already" not in result.stderr
    assert [(2,)] == query("SELECT count(*) FROM t")
    assert 0 == load("id,name,size\n", "--truncate").exit_code
    assert 2 == load("id,name,size\n1\n", "--truncate").exit_code
    assert [(2,)] == query("SELECT count(*) FROM t")
    execute(
        "CREATE TABLE u (id REFERENCES t (id)); CREATE TRIGGER no BEFORE DELETE ON t BEGIN"
        " SELECT RAISE(ABORT, 'never'); END"
    )
    result = load(PEOPLE, "--truncate")
    assert 2 == result.exit_code
    assert "--truncate cannot delete the rows of table t: never" in result.stderr


def test_a_load_that_may_double_the_rows_is_noted() -> None:
    """If the table has rows, and nothing decides which of them a new row replaces."""
    assert "rows already" not in load(PEOPLE, "--key", "id").stderr
    assert "rows already" not in load(PEOPLE, "--key", "id").stderr
    result = load(PEOPLE.replace("1,", "3,").replace("2,", "4,"))
    assert 0 == result.exit_code
    assert "table t has rows already; without --key these rows are added" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--not-null", "x"], "--not-null names 'x', which is not a column of the input"),
        (["--default", "x", "1"], "--default names 'x', which is not a column of the input"),
        (["--index", "id,x"], "--index names 'x', which is not a column of the input"),
        (["--default", "id", "one"], "--default is 'one' for column 'id', which is INTEGER"),
        (["--default", "id", "1.5"], "--default is '1.5' for column 'id', which is INTEGER"),
        (["--default", "id", "1", "--key", "id"], "a column of the key has no default"),
        (["--strict", "--keep-misfits"], "leave out one"),
        (["--index", ""], "--index is empty; name columns, or leave out --index"),
        (["--header", "a,A,b"], "--header: column 'A' repeats column 'a'"),
        (["--delimiter", ";;"], "--delimiter is ';;'; expected one character"),
        (["--quotechar", "\n"], "--quotechar is '\\n'; expected one character"),
        (["--encoding", "utf-9"], "--encoding is 'utf-9', which is not an encoding"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(arguments: list[str], problem: str) -> None:
    """The message names the option and its value, and no database is created."""
    result = load(PEOPLE, *arguments)
    assert 2 == result.exit_code
    assert problem in " ".join(result.stderr.split())
    assert not Path("a.db").exists()
