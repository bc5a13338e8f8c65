"""`forebay backup`: what it prints, its exit codes, and what it leaves when it is ended."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from forebay.cli._command import command


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("site.db")) as raw:
        raw.execute("PRAGMA journal_mode = wal").close()
        raw.execute("CREATE TABLE hits (url TEXT)").close()
        raw.execute("INSERT INTO hits VALUES ('/')")
        raw.commit()


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(command, ["backup", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def rows(path: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as raw:
        return raw.execute("SELECT * FROM hits").fetchall()


def names() -> list[str]:
    return sorted(file.name for file in Path().iterdir())


def test_a_copy_of_a_file_that_no_program_uses() -> None:
    """No other file is left, beside the database or beside the copy."""
    result = run("site.db", "copy.db")
    assert (0, "copy.db: 0.0 MiB copied.\n") == (result.exit_code, result.stdout)
    assert [("/",)] == rows("copy.db")
    assert ["copy.db", "site.db"] == names()


def test_a_copy_of_a_database_in_use() -> None:
    """It has what is committed, also what is only in the WAL."""
    with closing(sqlite3.connect("site.db", isolation_level=None)) as raw:
        raw.execute("INSERT INTO hits VALUES ('/a')")
        raw.execute("BEGIN IMMEDIATE")
        raw.execute("INSERT INTO hits VALUES ('/b')")
        result = run("site.db", "copy.db", "--json")
    assert 0 == result.exit_code
    size = Path("copy.db").stat().st_size
    assert {"file": "copy.db", "bytes": size} == json.loads(result.stdout)
    assert [("/",), ("/a",)] == rows("copy.db")


def test_an_existing_file_is_kept_or_replaced() -> None:
    """Only --overwrite replaces it."""
    assert 0 == run("site.db", "copy.db").exit_code
    with closing(sqlite3.connect("site.db")) as raw, raw:
        raw.execute("DELETE FROM hits")
    result = run("site.db", "copy.db")
    assert 2 == result.exit_code
    assert "copy.db: it exists already" in result.stderr
    assert [("/",)] == rows("copy.db")
    assert 0 == run("site.db", "copy.db", "--overwrite").exit_code
    assert [] == rows("copy.db")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["no.db", "copy.db"], "does not exist"),
        ([".", "copy.db"], "is a folder"),
        (["empty", "copy.db"], "is empty"),
        (["text", "copy.db"], "file is not a database"),
        (["site.db", "missing/copy.db"], "missing: No such file or directory"),
        (["site.db", "site.db"], "is the database or a file of it"),
        (["site.db", "site.db", "--overwrite"], "is the database or a file of it"),
        (["site.db", "link", "--overwrite"], "link: it is a symbolic link"),
    ],
)
def test_a_copy_that_cannot_be_made(arguments: list[str], expected: str) -> None:
    """It exits with 2, says why, and changes and creates nothing."""
    Path("text").write_text("no database, though a file with some text in it" * 100)
    Path("empty").touch()
    Path("link").symlink_to("elsewhere")
    before = names()
    result = run(*arguments)
    assert 2 == result.exit_code
    assert expected in " ".join(result.stderr.split())
    result = run(*arguments, "--json")
    assert 2 == result.exit_code
    assert expected in json.loads(result.stdout)["error"]
    assert before == names()
    assert [("/",)] == rows("site.db")


def test_a_locked_database_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a program in another journal mode locks it; the command waits for some seconds."""
    monkeypatch.setattr("forebay.cli._backup._LOCK_TIMEOUT", 0.01)
    with closing(sqlite3.connect("site.db", isolation_level=None)) as raw:
        raw.execute("PRAGMA journal_mode = delete")
        raw.execute("BEGIN EXCLUSIVE")
        result = run("site.db", "copy.db")
    assert 2 == result.exit_code
    assert "'site.db': database is locked" in result.stderr
    assert ["site.db"] == names()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_no_copy(number: signal.Signals, code: int) -> None:
    """The part is removed. The signal comes while the command waits for a lock, and ends that."""
    with closing(sqlite3.connect("site.db", isolation_level=None)) as raw:
        raw.execute("PRAGMA journal_mode = delete")
        raw.execute("BEGIN EXCLUSIVE")
        arguments = [sys.executable, "-m", "forebay", "backup", "site.db", "copy.db", "--json"]
        pipe = subprocess.PIPE
        with subprocess.Popen(arguments, stdout=pipe, stderr=pipe, text=True) as process:
            while not list(Path().glob("copy.db.*.part")):
                assert process.poll() is None
            process.send_signal(number)
            stdout, stderr = process.communicate(timeout=60)
    assert code == process.returncode
    assert "no copy was made" in stderr
    assert {"error": "no copy was made"} == json.loads(stdout)
    assert ["site.db"] == names()
