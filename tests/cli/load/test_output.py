"""What `forebay load` prints and writes: rejected rows, JSON, and what it would do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.load.runner import execute, load, query, run


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_summary_names_the_first_rejected_rows() -> None:
    """And how many more there are."""
    result = load("a,b\n1,1\n" + "x\n" * 13, "--skip-malformed")
    problem = "the row has 1 cell; expected 2, as in the header"
    shown = result.stdout.partition("rejected rows:\n")[2].splitlines()
    assert 11 == len(shown)
    assert shown[0].startswith(f"  in.csv, line 3: {problem}")
    assert "  ... and 3 more" == shown[-1]


def test_all_rejected_rows_are_written_to_a_file() -> None:
    """With the input, the line, the reason and the row as it is written in the input."""
    execute("CREATE TABLE t (id INTEGER PRIMARY KEY CHECK (id > 0), v TEXT)")
    content = b'id,v\n1,x\n2\n3,"two\nlines\nx\n-4,y\n5,\xff\nz,\xc3\xa9\n'
    result = load(content.replace(b"x\n-4", b'x"\n-4'), "--rejects", "r.ndjson", "--key", "id")
    assert 1 == result.exit_code
    assert [(1, "x"), (3, "two\nlines\nx")] == query("SELECT * FROM t")
    rejects = [json.loads(line) for line in Path("r.ndjson").read_text().splitlines()]
    assert [
        ("in.csv", 3, "2"),
        ("in.csv", 8, "5,\\xff"),
        ("in.csv", 9, "z,é"),
        ("in.csv", 7, "-4,y"),
    ] == [(r["source"], r["line"], r["text"]) for r in rejects]
    reasons = [reject["reason"] for reject in rejects]
    assert reasons[0].startswith("the row has 1 cell;")
    assert reasons[3].endswith("(SQLITE_CONSTRAINT_CHECK)")


@pytest.mark.parametrize(
    ("name", "header", "row"),
    [
        ("in.csv", "v,id", "x,{}"),
        ("in.csv", "v,id", '"x\n",{}'),
        ("in.ndjson", "", '{{"id": {}}}'),
        ("in.json", "", '{{"id":\n {}}}'),
    ],
    ids=["lines", "quoted", "ndjson", "json"],
)
@pytest.mark.parametrize("key", [(), ("--key", "id")], ids=["append", "key"])
def test_a_row_that_the_table_refuses_has_its_line_and_text(
    name: str, header: str, row: str, key: tuple[str, ...]
) -> None:
    """In any format, of thousands of rows in several files, however late its batch is flushed."""
    execute("CREATE TABLE t (id INTEGER PRIMARY KEY CHECK (id NOT IN (3, 9000, 11999)), v TEXT)")
    rows = [row.format(number) for number in range(12_000)]
    second = "\n".join([header, *rows[6_000:]]).lstrip()
    Path(f"b.{name}").write_text(second)
    content = "\n".join([header, *rows[:6_000]]).lstrip()
    arguments = ("--batch-size", "700", "--rejects", "r.ndjson", *key, "--quiet")
    assert 1 == load(content, f"b.{name}", *arguments, name=name).exit_code
    assert [(12_000 - 3,)] == query("SELECT count(*) FROM t")
    lines = bool(header) + 1, row.count("\n") + 1
    rejects = [json.loads(line) for line in Path("r.ndjson").read_text().splitlines()]
    assert [
        (name, lines[0] + lines[1] * 3, rows[3]),
        (f"b.{name}", lines[0] + lines[1] * 3_000, rows[9_000]),
        (f"b.{name}", lines[0] + lines[1] * 5_999, rows[11_999]),
    ] == [(reject["source"], reject["line"], reject["text"]) for reject in rejects]


def test_the_summary_names_rows_that_the_table_refuses() -> None:
    """As it names the malformed ones, and the messages do, up to ten of them."""
    execute("CREATE TABLE t (id INTEGER CHECK (id < 2))")
    result = load("id\n" + "".join(f"{i}\n" for i in range(14)))
    assert 1 == result.exit_code
    refused = [line for line in result.stderr.splitlines() if line.startswith("in.csv, line ")]
    assert refused[0].startswith("in.csv, line 4: the table refused the row: CHECK constraint")
    assert [f"  {line}" for line in refused] == result.stdout.splitlines()[-11:-1]
    assert "  ... and 2 more" == result.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("in.json", '[{"a": 1},\n[2,\n3], {"a": 4}]', "[2,\n3]"),
        ("in.ndjson", '{"a": 1}\nnope\n{"a": 4}\n', "nope"),
        ("in.csv", "a\n1\n" + "4\n" * 11_000 + "x\n", "x"),
    ],
)
def test_a_rejected_row_of_any_format_has_its_text(name: str, content: str, text: str) -> None:
    """Among the rows by which types are detected, and after them."""
    assert 1 == load(content, "--rejects", "r.ndjson", name=name).exit_code
    assert [text] == [
        json.loads(line)["text"] for line in Path("r.ndjson").read_text().splitlines()
    ]


def test_a_file_of_rejected_rows_that_cannot_be_written_is_an_error() -> None:
    """Nothing is loaded."""
    result = load("a\n1\n", "--rejects", "no/r.ndjson")
    assert 2 == result.exit_code
    assert "Error: no/r.ndjson: No such file or directory" in result.stderr
    assert not Path("a.db").exists()


@pytest.mark.parametrize("name", ["in.csv", "./in.csv", "link", "a.db"])
def test_the_file_of_rejected_rows_replaces_no_file_of_the_load(name: str) -> None:
    """Neither an input nor the database, by whatever path."""
    execute("CREATE TABLE t (a)")
    Path("link").symlink_to("in.csv")
    before = Path("a.db").read_bytes()
    assert 2 == load("a\n1\n", "--rejects", name).exit_code
    assert ("a\n1\n", before) == (Path("in.csv").read_text(), Path("a.db").read_bytes())


@pytest.mark.parametrize("name", ["a.db", "./a.db", "a.db-wal", "link-wal", "a.db-journal"])
def test_the_file_of_rejected_rows_is_no_later_file_of_the_database(name: str) -> None:
    """Also if the file does not exist yet: the database would be written into the same file."""
    Path("link").symlink_to("a.db")
    Path("link-wal").symlink_to("a.db-wal")
    assert 2 == load("a\n1\n", "--rejects", name).exit_code
    assert not Path("a.db").exists()


def test_the_error_of_a_malformed_row_names_the_option_that_skips_it() -> None:
    """Without that option, it ends the load."""
    assert "To skip such rows, use --skip-malformed" in load("a,b\n1\n").stderr


def test_the_summary_may_be_json() -> None:
    """For scripts: counts, the first rejected rows, errors and the exit code."""
    result = load("a,b\n1,1\n2\n", "--json", "--quiet", "--skip-malformed")
    document = json.loads(result.stdout)
    seconds = document.pop("seconds")
    assert seconds >= 0
    [reject] = document.pop("rejected_rows")
    assert ("in.csv", 3, "2") == (reject["source"], reject["line"], reject["text"])
    assert {
        "database": "a.db",
        "table": "t",
        "read": 2,
        "committed": 1,
        "superseded": 0,
        "rejected": 1,
        "errors": [],
        "exit_code": 1,
    } == document
    document = json.loads(load("a,b\n1\n", "--json").stdout)
    assert 2 == document["exit_code"]
    assert document["errors"][0].startswith("in.csv, line 2: the row has 1 cell;")


def test_a_dry_run_shows_the_table_and_changes_nothing() -> None:
    """The statements are those that the load would execute."""
    content = "id,name\n1,Ada\n2,\n" + "".join(f"{i},x\n" for i in range(3, 50))
    arguments = ("--key", "id", "--null", "", "--index", "name", "--default", "name", "it's")
    result = load(content, *arguments, "--dry-run")
    assert (0, False) == (result.exit_code, Path("a.db").exists())
    sql, _, rows = result.stdout.partition("\n\n")
    assert ["id  name", "1   Ada", "2   NULL", "3   x", "4   x", "5   x"] == rows.splitlines()
    execute(sql)
    shown = query("SELECT sql FROM sqlite_schema")
    assert "The table exists" in load(content, *arguments, "--dry-run").stdout
    Path("a.db").unlink()
    load(content, *arguments)
    assert shown == query("SELECT sql FROM sqlite_schema WHERE tbl_name = 't'")


def test_a_dry_run_without_rows_shows_the_table_alone() -> None:
    """The input is a header."""
    result = load("id,name\n", "--dry-run")
    assert 0 == result.exit_code, result.output
    assert ["CREATE TABLE"] == [" ".join(result.stdout.split()[:2])]
    assert "id  name" not in result.stdout


def test_many_inputs_are_not_all_named() -> None:
    """The message has the first three, and how many there are besides."""
    names = [f"in{number}.csv" for number in range(6)]
    for name in names:
        Path(name).write_text("a\n1\n")
    result = run(*names, "--database", "a.db", "--table", "t")
    assert "reading in0.csv, in1.csv, in2.csv, 3 more" in result.stderr
    assert [(6,)] == query("SELECT count(*) FROM t")


def test_a_dry_run_finds_the_first_malformed_row() -> None:
    """As the load would. With --json, the result is for scripts."""
    result = load("id\n1\n2,3\n", "--dry-run")
    assert (2, "") == (result.exit_code, result.stdout)
    document = json.loads(load("id\n1\n2,3\n", "--dry-run", "--skip-malformed", "--json").stdout)
    assert (["id"], [[1]], 1) == tuple(document[key] for key in ("columns", "rows", "rejected"))
    assert document["sql"][0].startswith('CREATE TABLE IF NOT EXISTS "t"')


def test_a_dry_run_shows_what_an_existing_table_lacks() -> None:
    """With --alter the load would add it."""
    execute("CREATE TABLE t (id INTEGER)")
    result = load("id,v\n1,x\n", "--dry-run", "--alter")
    assert result.stdout.startswith('ALTER TABLE "t" ADD COLUMN "v" TEXT;\n\nid  v\n')
    result = load("id,v\n1,x\n", "--dry-run")
    assert (2, True) == (result.exit_code, 'ADD COLUMN "v" TEXT' in result.stderr)
    assert "has no column 'v'; to add what is missing, use --alter\n" in result.stderr
    result = load("id\n1\n", "--dry-run")
    assert result.stdout.startswith("The table exists, and has the columns of the input.\n")
    assert [("id",)] == query("SELECT name FROM pragma_table_info('t')")


def test_one_object_around_the_rows_is_warned_of() -> None:
    """An answer of an API often is; the object is loaded as one row."""
    result = load('{"count": 2, "items": [{"a": 1}, {"a": 2}]}', name="in.json")
    assert 0 == result.exit_code
    assert "its key 'items' has 2 objects; to load these, run: jq '.[\"items\"]'" in result.stderr
    assert [(2, '[{"a": 1}, {"a": 2}]')] == query("SELECT * FROM t")
