"""The types of a new table depend on the bytes of the input, and every text comes back."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forebay.cli._command import command
from tests.cli.load.runner import wait_for
from tests.cli.load.ways import WAYS

LOAD = [sys.executable, "-m", "forebay", "load"]
WAITING = "read; waiting for 10,000 rows or the end of the input"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def query(sql: str, database: str = "a.db") -> list[Any]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(sql).fetchall()


def execute(sql: str, database: str = "a.db") -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(sql)


def load(
    content: str, *arguments: str, name: str = "in.csv", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command for a file with this content, into table t of a.db."""
    Path(name).write_text(content)
    return subprocess.run(
        [*LOAD, name, "--database", "a.db", "--table", "t", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def outcome(database: str = "a.db") -> tuple[list[Any], list[Any]]:
    return query("SELECT sql FROM sqlite_schema WHERE name = 't'", database), query(
        "SELECT * FROM t ORDER BY 1", database
    )


@pytest.mark.parametrize("key", [(), ("--key", "a")], ids=["append", "key"])
def test_the_hash_seed_does_not_matter(key: Sequence[str]) -> None:
    """The table and the exit code are the same for every PYTHONHASHSEED."""
    outcomes = []
    for seed in range(4):
        Path("a.db").unlink(missing_ok=True)
        content = "a,b,c,d\n1,1.1,1e-05,2\n1.0,1.10,0.00001,2.5\n2,1e5,3,3\n"
        done = load(content, *key, PYTHONHASHSEED=str(seed))
        outcomes.append((done.returncode, outcome()))
    assert [outcomes[0]] * 4 == outcomes
    assert (0, 3) == (outcomes[0][0], len(outcomes[0][1][1]))


def test_keys_that_differ_as_texts_stay_different() -> None:
    """1.1 and 1.10 are two keys."""
    assert 0 == load("version,v\n1.1,a\n1.10,b\n", "--key", "version").returncode
    assert [("1.1", "a"), ("1.10", "b")] == outcome()[1]


def test_a_declared_key_refuses_a_text_that_it_would_change() -> None:
    """The key 1.10 is not merged into the row of 1.1."""
    execute("CREATE TABLE t (version REAL PRIMARY KEY, v TEXT)")
    done = load("version,v\n1.1,a\n1.10,b\n", "--key", "version")
    assert 2 == done.returncode
    assert "in.csv, line 3: SQLite would change '1.10' in column 'version'" in done.stderr
    assert [(1.1, "a")] == outcome()[1]


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.text(alphabet="0123456789.-+eE ", max_size=6) | st.floats().map(repr) | st.just("2"),
        min_size=1,
        max_size=6,
    )
)
def test_every_cell_comes_back_as_its_text(cells: list[str]) -> None:
    """Each column gives back its texts in one way to write numbers; NULL is an empty text."""
    Path("a.db").unlink(missing_ok=True)
    Path("in.csv").write_text("\n".join(["a", *(f'"{cell}"' for cell in cells), ""]))
    arguments = ["load", "in.csv", "--database", "a.db", "--table", "t", "--quiet"]
    assert 0 == CliRunner().invoke(command, arguments).exit_code
    values = [value for (value,) in query("SELECT a FROM t ORDER BY rowid")]
    assert cells in [
        [
            write(value) if isinstance(value, float) else "" if value is None else str(value)
            for value in values
        ]
        for write in WAYS.values()
    ]


@contextmanager
def loading(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    pipe = subprocess.PIPE
    into = ["--database", "pipe.db", "--table", "t"]
    with subprocess.Popen(
        [*LOAD, "-", *into, *arguments], stdin=pipe, stdout=pipe, stderr=pipe
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def feed(process: subprocess.Popen[bytes], text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(text.encode())
    process.stdin.flush()


@pytest.mark.parametrize(
    ("parts", "arguments"),
    [
        (["id,v\n1,x\n", "007,y\n"], []),
        (["id,v\n1,", "x\n2,y\n3.5,z\n"], []),
        (['{"id": 1}\n', '{"id": 2, "v": "x"}\n'], ["--format", "ndjson"]),
    ],
)
def test_a_pause_in_a_pipe_does_not_matter(parts: list[str], arguments: Sequence[str]) -> None:
    """The rows after it count as if there were no pause."""
    with loading(*arguments) as process:
        feed(process, parts[0])
        wait_for(process, WAITING)
        feed(process, parts[1])
        assert process.stdin is not None
        process.stdin.close()
        assert 0 == process.wait(60)
    name = "in.ndjson" if arguments else "in.csv"
    assert 0 == load("".join(parts), name=name).returncode
    assert outcome() == outcome("pipe.db")


def test_without_detection_a_pipe_does_not_wait() -> None:
    """Rows are loaded as they arrive, since no type needs to be detected."""
    with loading("--no-detect-types") as process:
        feed(process, "id,v\n1,x\n")
        wait_for(process, "1 row, ")
        wait_for(process, ", 0 pending")
        assert [("1", "x")] == outcome("pipe.db")[1]


def test_a_signal_ends_the_sample_and_loads_its_rows() -> None:
    """The rows that were read are in the table."""
    with loading() as process:
        feed(process, "id,v\n1,x\n2,y\n")
        wait_for(process, WAITING)
        process.send_signal(signal.SIGTERM)
        assert 143 == process.wait(60)
    assert [(1, "x"), (2, "y")] == outcome("pipe.db")[1]


@pytest.mark.parametrize(
    "others", ["", '{"id": 2, "v": "new", "w": 3}\n', '{"id": 2, "v": null}\n']
)
@pytest.mark.parametrize("first", [True, False])
def test_the_keys_of_other_objects_do_not_matter(others: str, first: bool) -> None:
    """An object is a whole row: a column that it does not name gets its default, or NULL."""
    execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, w INTEGER DEFAULT 7, x REAL)")
    execute("INSERT INTO t VALUES (1, 'old', 8, 9.0)")
    alone = '{"id": 1}\n'
    content = alone + others if first else others + alone
    assert 0 == load(content, "--key", "id", name="in.ndjson").returncode
    assert [(1, None, 7, None)] == query("SELECT * FROM t WHERE id = 1")


def test_an_object_leaves_columns_that_sqlite_sets() -> None:
    """The primary key, generated columns, and defaults that are expressions."""
    execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT UNIQUE, n AS (length(v)),"
        " w TEXT DEFAULT (hex(randomblob(4))))"
    )
    for _ in range(2):
        assert 0 == load('{"v": "a"}\n{"v": "b"}\n', "--key", "v", name="in.ndjson").returncode
    rows = query("SELECT id, v, n, length(w) FROM t")
    assert [(1, "a", 1, 8), (2, "b", 1, 8)] == rows


def test_the_key_of_a_later_object_can_be_any_column_of_the_table() -> None:
    """The columns of an existing table are known without the first rows."""
    execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
    content = json.dumps({"v": "no key"}) + '\n{"id": 2, "v": "x"}\n'
    done = load(content, "--key", "id", "--skip-malformed", name="in.ndjson")
    assert "in.ndjson, line 1: key column 'id' has no value" in done.stderr
    assert (1, [(2, "x")]) == (done.returncode, outcome()[1])
