"""`forebay load`: the rows in the table, the output, the exit code."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import forebay
from forebay._errors import Unsettled
from forebay.cli._command import command
from forebay.cli._load import report
from tests.cli.load.runner import execute, load, query, run

PEOPLE = "id,name,size\n1,Ada,1.5\n2,Bob,\n3,Cy,2\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def summary(result: Result) -> dict[str, int]:
    counts = result.stdout.partition("\n\n")[0]
    lines = dict(line.split() for line in counts.splitlines())
    names = ("read", "committed", "superseded", "rejected")
    return {name: int(lines[name].replace(",", "")) for name in names}


def test_a_new_table_has_the_types_and_rows_of_the_input() -> None:
    """The types of columns are detected, and an empty cell in a column of numbers is NULL."""
    result = load(PEOPLE)
    assert (0, {"read": 3, "committed": 3, "superseded": 0, "rejected": 0}) == (
        result.exit_code,
        summary(result),
    )
    assert [("id", "INTEGER"), ("name", "TEXT"), ("size", "REAL")] == query(
        "SELECT name, type FROM pragma_table_info('t')"
    )
    assert [(1, "Ada", 1.5), (2, "Bob", None), (3, "Cy", 2.0)] == query("SELECT * FROM t")


def test_without_a_key_rows_are_added() -> None:
    """A second load of the same file adds every row again."""
    load(PEOPLE)
    load(PEOPLE)
    assert [(6,)] == query("SELECT count(*) FROM t")


@pytest.mark.parametrize(
    ("merge", "rows"),
    [
        ((), [(1, "new"), (2, "b")]),
        (("--merge", "replace"), [(1, "new"), (2, "b")]),
        (("--merge", "keep"), [(1, "a"), (2, "b")]),
    ],
)
def test_with_a_key_rows_of_one_key_are_merged(merge: Sequence[str], rows: list[Any]) -> None:
    """The rule holds across loads, in a table whose key is unique."""
    load("id,v\n1,a\n", "--key", "id", *merge)
    result = load("id,v\n1,new\n2,b\n", "--key", "id", *merge)
    assert 0 == result.exit_code
    assert rows == query("SELECT * FROM t ORDER BY id")


def test_rows_of_one_key_in_one_input_supersede() -> None:
    """The summary counts the rows that a later row replaced before they were committed."""
    result = load("id,v\n1,a\n1,b\n1,c\n", "--key", "id")
    assert {"read": 3, "committed": 1, "superseded": 2, "rejected": 0} == summary(result)
    assert [(1, "c")] == query("SELECT * FROM t")


def test_a_key_may_have_several_columns_and_any_names() -> None:
    """Names are separated by commas, and a name with a comma is quoted."""
    text = '"a,b",select,v\n1,x,one\n1,y,two\n1,x,three\n'
    assert 0 == load(text, "--key", '"a,b",select').exit_code
    assert [(1, "x", "three"), (1, "y", "two")] == query("SELECT * FROM t ORDER BY 2")


def test_without_detection_all_columns_are_text() -> None:
    """--no-detect-types loads the text of every cell."""
    load(PEOPLE, "--no-detect-types", "--key", "id")
    assert [("1", "Ada", "1.5"), ("2", "Bob", ""), ("3", "Cy", "2")] == query("SELECT * FROM t")


def test_texts_for_null_are_null() -> None:
    """--null may be repeated."""
    load("a,b\n1,x\nNA,\n", "--null", "NA", "--null", "")
    assert [(1, "x"), (None, None)] == query("SELECT * FROM t")


def test_leading_zeros_are_kept() -> None:
    """An identifier with leading zeros is not a number."""
    load("zip\n02139\n94103\n")
    assert [("02139",), ("94103",)] == query("SELECT * FROM t")


def test_json_values_keep_their_types() -> None:
    """Missing keys are NULL, nested values are JSON text, and booleans are 1 or 0."""
    lines = [{"a": 1, "b": "007", "c": True}, {"a": 0.5, "d": {"x": [None]}}]
    load("\n".join(map(json.dumps, lines)), name="in.jsonl")
    assert [(1.0, "007", 1, None), (0.5, None, None, '{"x": [null]}')] == query("SELECT * FROM t")


def test_a_second_load_uses_the_types_of_the_table() -> None:
    """Types are detected for a new table only: digits in a column of TEXT are text."""
    load("id,v\n1,x\n", "--key", "id")
    result = load("id,v\n2,5\n", "--key", "id")
    assert 0 == result.exit_code
    assert [(1, "x"), (2, "5")] == query("SELECT * FROM t")


def test_a_table_with_more_columns_takes_the_rows() -> None:
    """Columns that are not in the input keep their values, or get their defaults in a new row."""
    execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, w INTEGER DEFAULT 7)")
    execute("INSERT INTO t VALUES (1, 'old', 8)")
    load("ID,v\n1,x\n2,y\n", "--key", "ID")
    assert [(1, "x", 8), (2, "y", 7)] == query("SELECT * FROM t")


def test_several_inputs_are_one_load(tmp_path: Path) -> None:
    """Each may be compressed, and have the columns in another order."""
    Path("b.csv.gz").write_bytes(gzip.compress(b"v,id\ny,2\n"))
    Path("a.csv").write_text("id,v\n1,x\n")
    result = run("a.csv", "b.csv.gz", "--database", "a.db", "--table", "t", "--key", "id")
    assert {"read": 2, "committed": 2, "superseded": 0, "rejected": 0} == summary(result)
    assert [(1, "x"), (2, "y")] == query("SELECT * FROM t")


def test_several_inputs_without_a_header_are_loaded_in_their_order() -> None:
    """Also the first row of each."""
    Path("b.csv").write_text("3,z\n4,w\n5,v\n")
    assert 0 == load("1,x\n2,y\n", "b.csv", "--no-headers", "--stop-after", "4").exit_code
    assert [(1, "x"), (2, "y"), (3, "z"), (4, "w")] == query("SELECT * FROM t")


def test_an_input_with_other_columns_ends_the_load() -> None:
    """The rows before it are in the table."""
    Path("a.csv").write_text("id,v\n1,x\n")
    Path("b.csv").write_text("id,w\n2,y\n")
    result = run("a.csv", "b.csv", "--database", "a.db", "--table", "t")
    assert 2 == result.exit_code
    assert (
        "Error: b.csv, line 1: column 'v' is missing; expected the columns of the first"
        in result.stderr
    )
    assert [(1, "x")] == query("SELECT * FROM t")


MALFORMED = [
    pytest.param(
        "id,v\n1,x\n2\n3,y\n", "line 3: the row has 1 cell; expected 2", id="too few cells"
    ),
    pytest.param(
        "id,v\n1,x\n2,y,z\n3,y\n", "line 3: the row has 3 cells; expected 2", id="too many cells"
    ),
    pytest.param('id,v\n1,x\n2,"y"z\n3,y\n', "line 3: ',' expected after '\"'", id="quote"),
    pytest.param(
        b"id,v\n1,x\n2,\xff\n3,y\n", "line 3: byte 3 of the line, 0xff, is not UTF-8", id="UTF-8"
    ),
    pytest.param("id,v\n1,x\n2,\0\n3,y\n", "line 3: character 3 of the line is NUL", id="NUL"),
    pytest.param("id,v\n1,x\n,y\n3,y\n", "line 3: key column 'id' has no value", id="no key"),
]


@pytest.mark.parametrize(("content", "problem"), MALFORMED)
def test_a_malformed_row_ends_the_load(content: str | bytes, problem: str) -> None:
    """The error has the file, the line and what was expected. The rows before are in the table."""
    result = load(content, "--key", "id")
    assert 2 == result.exit_code
    assert f"Error: in.csv, {problem}" in result.stderr
    assert [(1, "x")] == query("SELECT * FROM t")
    assert {"read": 1, "committed": 1, "superseded": 0, "rejected": 0} == summary(result)


@pytest.mark.parametrize(("content", "problem"), MALFORMED)
def test_a_malformed_row_is_skipped_on_request(content: str | bytes, problem: str) -> None:
    """All other rows are in the table. The row is printed and counted, and the exit code is 1."""
    result = load(content, "--key", "id", "--skip-malformed")
    assert 1 == result.exit_code
    assert f"in.csv, {problem}" in result.stderr
    assert [(1, "x"), (3, "y")] == query("SELECT * FROM t")
    assert {"read": 3, "committed": 2, "superseded": 0, "rejected": 1} == summary(result)


def test_only_the_first_skipped_rows_are_printed() -> None:
    """A file of bad rows does not flood the terminal. The summary has the count."""
    result = load("a,b\n1,1\n" + "x\n" * 500, "--skip-malformed", "--quiet")
    assert 10 == result.stderr.count("; skipped\n")
    assert result.stderr.endswith("; the summary has the count\n")
    assert 1 == result.exit_code


def with_a_short_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Detect types from the first chunk only, and have short chunks."""
    monkeypatch.setattr("forebay.cli._load.plan.SAMPLE_ROWS", 1)
    monkeypatch.setattr("forebay.cli._load.lines.BLOCK_BYTES", 64)


def test_a_later_value_that_sqlite_would_change_is_malformed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A column of integers does not change 007 to 7. The message names an option."""
    with_a_short_sample(monkeypatch)
    rows = "".join(f"{i}\n" for i in range(100))
    result = load(f"id\n{rows}007\n8\n")
    assert 2 == result.exit_code
    assert (
        "Error: in.csv, line 102: SQLite would change '007' in column 'id'; expected "
        "an integer, as in the first rows; --type id TEXT loads the column as text\n"
    ) in result.stderr
    assert [(100, 99)] == query("SELECT count(*), max(id) FROM t")


def test_a_later_value_of_another_type_is_malformed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its line. On request a text in a column of integers stays a text."""
    with_a_short_sample(monkeypatch)
    content = "id\n" + "".join(f"{i}\n" for i in range(100)) + "none\n1.5\n"
    result = load(content)
    assert 2 == result.exit_code
    assert "Error: in.csv, line 102: column 'id' has the value 'none'; expected" in result.stderr
    assert [(100,)] == query("SELECT count(*) FROM t")
    execute("DROP TABLE t")
    assert 0 == load(content, "--keep-misfits").exit_code
    assert [("none",), (1.5,)] == query("SELECT id FROM t ORDER BY rowid LIMIT 2 OFFSET 100")


@pytest.mark.parametrize("declared", ["DATE", "BOOLEAN", "DECIMAL(10,2)"])
def test_a_column_of_dates_or_decimals_holds_any_value(declared: str) -> None:
    """SQLite's type for them is NUMERIC, which holds texts too."""
    execute(f"CREATE TABLE t (c {declared})")
    assert 0 == load("c\n2024-01-01\ntrue\n1.5\n7\n").exit_code
    assert [("2024-01-01",), ("true",), (1.5,), (7,)] == query("SELECT c FROM t")


def test_a_column_without_a_type_holds_any_value() -> None:
    """Its values have the type of the first rows, if they have it."""
    execute("CREATE TABLE t (c)")
    assert 0 == load("c\n1\n2\n").exit_code
    assert 0 == load('{"c": 3}\n{"c": "x"}\n', name="in.ndjson").exit_code
    assert [(1,), (2,), ("3",), ("x",)] == query("SELECT c FROM t")


def test_a_named_type_is_that_of_the_column() -> None:
    """Numbers may be written in any way then. A later load may name it again, but not change it."""
    content = "zip,price,n\n94103,1.10,1\n10001,2.5,2\n"
    types = ("--type", "zip", "text", "--type", "price", "REAL")
    assert 0 == load(content, *types).exit_code
    assert [("94103", 1.1, 1), ("10001", 2.5, 2)] == query("SELECT * FROM t")
    assert 0 == load(content, *types).exit_code
    result = load(content, "--type", "zip", "INTEGER")
    assert 2 == result.exit_code
    assert "names the type INTEGER for column 'zip', but the table exists" in result.stderr
    result = load(content, "--type", "zap", "INTEGER")
    assert "--type names 'zap', which is not a column of the input" in result.stderr


def test_a_key_that_only_later_objects_have_is_malformed(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no column for its value; null needs no column."""
    with_a_short_sample(monkeypatch)
    lines = ['{"a": 1}'] * 20 + ['{"a": 2, "b": null}', '{"a": 3, "b": 4}', '{"a": 5}']
    result = load("\n".join(lines), "--skip-malformed", name="in.ndjson")
    assert (
        "in.ndjson, line 22: key 'b' is unknown; expected keys of the first rows" in result.stderr
    )
    assert [(22, 5)] == query("SELECT count(*), max(a) FROM t")


def test_a_row_that_the_table_refuses_is_rejected() -> None:
    """It is a dead letter, the others are in the table, and the exit code is 1."""
    execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT CHECK (v <> 'bad'))")
    result = load("id,v\n1,a\n2,bad\n3,c\n", "--key", "id")
    assert 1 == result.exit_code
    assert {"read": 3, "committed": 2, "superseded": 0, "rejected": 1} == summary(result)
    assert "table t refused 1 row; to see the rows and the errors, run: " in result.stderr
    assert "forebay dead-letters list a.db\n" in result.stderr
    assert [(1, "a"), (3, "c")] == query("SELECT * FROM t")


@pytest.mark.parametrize("skip", [(), ("--skip-malformed",)])
@pytest.mark.parametrize(
    ("name", "content"), [("in.json", "[]"), ("in.ndjson", ""), ("in.jsonl", "\n\n")]
)
def test_an_input_without_rows_makes_no_table(name: str, content: str, skip: Sequence[str]) -> None:
    """An empty input is not an error, and shows no types for a table."""
    result = load(content, *skip, name=name)
    assert (0, {"read": 0, "committed": 0, "superseded": 0, "rejected": 0}) == (
        result.exit_code,
        summary(result),
    )
    assert not Path("a.db").exists()


def test_a_header_alone_makes_a_table() -> None:
    """Its columns are TEXT, unless --type names another type. A second load changes nothing."""
    for _ in range(2):
        assert 0 == load("a,b\n", "--type", "b", "INTEGER").exit_code
        types = query("SELECT name, type FROM pragma_table_info('t')")
        assert ([("a", "TEXT"), ("b", "INTEGER")], []) == (types, query("SELECT * FROM t"))


@pytest.mark.parametrize(
    ("name", "content"), [("in.ndjson", "nope\n[1]\n"), ("in.csv", "a,b\n1\n2\n")]
)
def test_an_input_of_bad_rows_alone_makes_no_table(name: str, content: str) -> None:
    """The rows are counted."""
    result = load(content, "--skip-malformed", name=name)
    assert (1, {"read": 2, "committed": 0, "superseded": 0, "rejected": 2}) == (
        result.exit_code,
        summary(result),
    )
    assert not Path("a.db").exists()


def nothing() -> None: ...


def a_directory() -> None:
    Path("a.db").mkdir()


def a_text() -> None:
    Path("a.db").write_text("no database, but a text that is long enough to be looked at" * 99)


def a_view() -> None:
    execute("CREATE VIEW t AS SELECT 1 AS id, 2 AS name, 3 AS size")


def no_unique_key() -> None:
    execute("CREATE TABLE t (id INTEGER, name TEXT, size REAL)")


def too_few_columns() -> None:
    execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)")


@pytest.mark.parametrize(
    ("prepare", "arguments", "problem"),
    [
        (nothing, ["missing.csv", "--database", "a.db", "--table", "t"], "does not exist"),
        (nothing, [".", "--database", "a.db", "--table", "t"], "is a directory"),
        (nothing, ["in.csv", "--table", "t"], "Missing option '--database'"),
        (nothing, ["--database", "a.db", "--table", "t"], "Missing argument 'FILE...'"),
        (nothing, ["in.csv", "--database", ":memory:", "--table", "t"], "expected the path of a"),
        (nothing, ["in.csv", "--database", "no/a.db", "--table", "t"], "no/a.db: No such file"),
        (nothing, ["in.csv", "--database", "a.db", "--table", ""], "got ''"),
        (nothing, ["-", "-", "--database", "a.db", "--table", "t"], "can be read only once"),
        (
            nothing,
            ["in.txt", "--database", "a.db", "--table", "t"],
            "with --format",
        ),
        (a_directory, ["in.csv", "--database", "a.db", "--table", "t"], "is a directory"),
        (a_text, ["in.csv", "--database", "a.db", "--table", "t"], "file is not a database"),
        (a_view, ["in.csv", "--database", "a.db", "--table", "t"], "'t' is a view"),
        (
            no_unique_key,
            ["in.csv", "--database", "a.db", "--table", "t", "--key", "id"],
            'CREATE UNIQUE INDEX "t_key" ON "t"',
        ),
        (
            too_few_columns,
            ["in.csv", "--database", "a.db", "--table", "t", "--key", "id"],
            'ALTER TABLE "t" ADD COLUMN "size"',
        ),
        (
            nothing,
            ["in.csv", "--database", "a.db", "--table", "t", "--key", "nope"],
            "--key names 'nope', which is not a column of the input; the columns are id, name",
        ),
        (
            nothing,
            ["in.csv", "--database", "a.db", "--table", "t", "--key", 'id,"name'],
            "expected column names separated by commas",
        ),
        (
            nothing,
            ["in.csv", "--database", "a.db", "--table", "t", "--merge", "keep"],
            "--merge needs --key",
        ),
        (
            nothing,
            ["in.csv", "--database", "a.db", "--table", "t", "--batch-size", "0"],
            "0 is not in the range x>=1",
        ),
        (
            nothing,
            ["in.csv", "--database", "a.db", "--table", "t", "--flush-interval", "nan"],
            "flush_interval = nan: expected",
        ),
    ],
)
def test_a_usage_or_database_error_has_a_message(
    prepare: Callable[[], None], arguments: Sequence[str], problem: str
) -> None:
    """There is no traceback, the exit code is 2, and standard output is empty."""
    Path("in.csv").write_text(PEOPLE)
    Path("in.txt").write_text(PEOPLE)
    prepare()
    result = run(*arguments)
    assert 2 == result.exit_code
    assert problem in " ".join(result.stderr.split())
    assert "" == result.stdout


@pytest.mark.parametrize(
    "content", ['id,v\n1,"x\n', "id,v\n1\n", "", "id,id\n1,2\n"], ids=["quote", "few", "", "twice"]
)
def test_an_input_with_no_good_row_leaves_no_database(content: str) -> None:
    """A load that cannot begin creates no table, whose types would bind the next load."""
    assert 2 == load(content).exit_code
    assert not Path("a.db").exists()


def test_keys_of_two_json_types_are_refused() -> None:
    """1, true and "1" would be one key of the table, and two of the rows would be lost."""
    Path("in.ndjson").write_text('{"id": "1"}\n{"id": 1}\n{"id": true}\n{"id": "2"}\n')
    into = ["in.ndjson", "--database", "a.db", "--table", "t", "--key", "id"]
    result = run(*into, "--skip-malformed")
    assert 1 == result.exit_code
    assert "line 2: key column 'id' has the value 1; expected a text" in result.stderr
    assert "line 3: key column 'id' has the value True" in result.stderr
    assert [("1",), ("2",)] == query("SELECT id FROM t ORDER BY id")


def test_a_declared_numeric_column_accepts_exponents() -> None:
    """The table declares that the text is a number."""
    execute("CREATE TABLE t (id INTEGER PRIMARY KEY, n NUMERIC, r REAL)")
    result = load("id,n,r\n1,1.0,1e3\n2,1e3,-5e-1\n")
    assert 0 == result.exit_code
    assert [(1, 1, 1000.0), (2, 1000, -0.5)] == query("SELECT * FROM t ORDER BY id")


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 99])
def test_a_load_stops_after_a_number_of_rows(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all inputs together. Malformed rows count, and what follows is not looked at."""
    monkeypatch.setattr("forebay.cli._load.plan.SAMPLE_ROWS", 2)
    monkeypatch.setattr("forebay.cli._load.lines.BLOCK_BYTES", 4)
    Path("a.csv").write_text("id\n1\n2,\n3\n")
    Path("b.csv").write_text("id\n4\n5\n")
    result = run(
        *("a.csv", "b.csv", "--database", "a.db", "--table", "t", "--skip-malformed"),
        *("--stop-after", str(limit)),
    )
    assert int(limit > 1) == result.exit_code
    expected = [(number,) for number in (1, 3, 4, 5) if number <= limit]
    assert expected == query("SELECT id FROM t")


def test_quiet_prints_nothing() -> None:
    """If there is no problem."""
    result = load(PEOPLE, "--quiet")
    assert (0, "", "") == (result.exit_code, result.stdout, result.stderr)


def test_the_help_has_examples_and_exit_codes() -> None:
    """click does not join their lines."""
    result = CliRunner().invoke(command, ["load", "--help"])
    assert "    forebay load people.csv --database my.db --table people --key id\n" in result.stdout
    assert "    143  ended by SIGTERM\n" in result.stdout


def test_an_empty_key_is_a_usage_error() -> None:
    """An unset variable of a script does not turn an upsert into an append."""
    result = load(PEOPLE, "--key", "")
    assert 2 == result.exit_code
    assert "--key is empty" in result.stderr
    assert not Path("a.db").exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], (2, 0)),
        (["--dead-letters-per-minute", "1001"], (1, 1001)),
        (["--dead-letters-per-minute", "none"], (1, 1001)),
        (["--skip-malformed"], (1, 1001)),
        (["--skip-malformed", "--dead-letters-per-minute", "5"], (2, 0)),
    ],
)
def test_the_limit_of_refused_rows_can_be_set(
    options: Sequence[str], expected: tuple[int, int]
) -> None:
    """One row more than the limit ends the load, and the message names the option."""
    execute("CREATE TABLE t (a INTEGER CHECK (a < 0))")
    result = load("a\n" + "1\n" * 1001, *options)
    has_letters = query("SELECT 1 FROM sqlite_schema WHERE name = 'forebay_dead_letters'")
    letters = query("SELECT count(*) FROM forebay_dead_letters") if has_letters else [(0,)]
    assert expected == (result.exit_code, letters[0][0])
    if expected[0] == 2:
        assert "--dead-letters-per-minute is " in result.stderr
        assert "BufferOptions" not in result.stderr


@pytest.mark.parametrize("value", ["-1", "many", ""])
def test_a_malformed_limit_is_a_usage_error(value: str) -> None:
    """Nothing is read."""
    result = load(PEOPLE, "--dead-letters-per-minute", value)
    assert (2, True) == (result.exit_code, "expected a number, or none" in result.stderr)
    assert not Path("a.db").exists()


def test_rows_in_doubt_may_be_in_the_table() -> None:
    """After the file was deleted, it is not known whether they were committed."""
    unsettled = Unsettled((forebay.Write((1,)),), count=1, oldest_age=0.0)
    for cause, expected in ((forebay.StoreError("deleted"), "may not be"), (None, "not")):
        failure = forebay.FlushError("why", buffer="t", unsettled=unsettled, cause=cause)
        lines = report.describe_failure(failure).splitlines()
        assert f"1 row accepted, and {expected} in the table:" == lines[1]


@pytest.mark.parametrize(
    ("name", "content", "arguments", "advice"),
    [
        ("in.csv", "a;b\n1;2\n", (), "--delimiter ';'"),
        ("in.csv", "a|b\n1|2\n", (), "--delimiter '|'"),
        ("in.csv", "a\tb\n1\t2\n", (), "--delimiter '\\t'"),
        ("in.tsv", "a,b\n1,2\n", (), "--delimiter ','"),
        ("in.csv", "a\tb\n1\t2\n", ("--format", "tsv"), None),
        ("in.csv", "a;b\n1;2\n", ("--delimiter", ","), None),
        ("in.csv", "a;b\n1;2\n", ("--sniff",), None),
        ("in.csv", '"a,b"\n1\n', (), None),
        ("in.csv", "a;b,c\n1,2\n", (), None),
        ("in.csv", "a\n1;2\n", (), None),
        ("in.ndjson", '{"a;b": 1}\n', (), None),
    ],
)
def test_another_delimiter_is_named(
    name: str, content: str, arguments: Sequence[str], advice: str | None
) -> None:
    """A single column whose name looks like several is loaded only on request."""
    result = load(content, *arguments, "--quiet", name=name)
    if advice is None:
        assert (0, "") == (result.exit_code, result.stderr)
    else:
        assert 2 == result.exit_code
        named = repr(content.splitlines()[0])
        assert f"{name}, line 1: there is one column, named {named}" in result.stderr
        assert f"name its delimiter, such as {advice}, or use --sniff" in result.stderr
        assert not Path("a.db").exists()


@pytest.mark.parametrize("option", ["--table", "--key", "--null"])
def test_an_option_that_is_not_text_is_a_usage_error(option: str) -> None:
    """SQLite stores text only; the file is not created."""
    Path("in.csv").write_text(PEOPLE)
    arguments = ["in.csv", "--database", "a.db", "--table", "t", option, "t\udcff"]
    result = run(*arguments)
    assert 2 == result.exit_code
    assert f"Error: {option} is 't\\udcff'; expected text in UTF-8\n" in result.stderr
    assert not Path("a.db").exists()
