"""`forebay doctor`: what it prints and its exit codes. What it finds: tests/doctor."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from forebay import Table, Write
from forebay._spill.writing import write_spill
from forebay.cli import _doctor
from forebay.cli._command import command
from forebay.doctor import HealthReport

HITS = Table.from_columns({"url": str, "count": int}, name="hits", key="url")

DECLARATIONS = """
from forebay import Table
HITS = Table.from_columns({"url": str, "count": int}, name="hits", key="url")
GONE = Table.from_columns({"url": str}, name="gone")
ALL = {"hits": HITS, "gone": GONE}
PAIR = (HITS, HITS)
NUMBER = 1
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("site.db")) as raw:
        raw.execute("CREATE TABLE hits (url TEXT PRIMARY KEY NOT NULL, count INTEGER NOT NULL)")
    Path(f"declared_{tmp_path.name}.py").write_text(DECLARATIONS)


@pytest.fixture
def module(tmp_path: Path) -> str:
    """A module in the current folder. Its name is unique, since Python keeps what it imported."""
    return f"declared_{tmp_path.name}"


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(command, ["doctor", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def test_a_sound_database_exits_with_0() -> None:
    """And says that there is no problem."""
    result = run("site.db")
    assert 0 == result.exit_code
    assert "\nNo problems" in result.stdout


def test_advice_exits_with_1_if_strict() -> None:
    """By default every Debian 12 would fail, because of its SQLite."""
    with closing(sqlite3.connect("site.db")) as raw:
        raw.execute("PRAGMA journal_mode = wal")
    advice = sum(
        f["verdict"] == "advice" for f in json.loads(run("site.db", "--json").stdout)["findings"]
    )
    assert (1 if advice else 0) == run("site.db", "--strict").exit_code
    with closing(sqlite3.connect("site.db")) as raw:
        raw.execute("PRAGMA journal_mode = delete")
    assert 0 == run("site.db").exit_code
    result = run("site.db", "--strict")
    assert 1 == result.exit_code
    assert "of advice.\n" in result.stdout


def test_a_problem_exits_with_1() -> None:
    """The message is beside the name of the check, its line breaks kept."""
    write_spill("site-spill", {HITS: [Write(("/", 1))]}, reason="first line\nsecond line")
    result = run("site.db")
    assert 1 == result.exit_code
    assert "problem spills" in result.stdout
    assert "1 problem: see above." in result.stdout
    assert " " * 24 + "second line" in result.stdout


@pytest.mark.parametrize("folder", [".", "/", "sub/"])
def test_a_folder_is_a_problem(folder: str) -> None:
    """The report says so, and the exit code is 1."""
    Path("sub").mkdir()
    result = CliRunner().invoke(command, ["doctor", folder])
    assert 1 == result.exit_code
    assert "is not a regular file" in result.stdout


@pytest.mark.parametrize(("name", "healthy"), [("site.db", True), ("no.db", False)])
def test_json_for_scripts(name: str, healthy: bool) -> None:
    """There is one document, whatever was found."""
    result = run(name, "--json")
    report = json.loads(result.stdout)
    assert (name, healthy, 0 if healthy else 1) == (
        report["path"],
        report["healthy"],
        result.exit_code,
    )
    assert {"check", "verdict", "message", "values"} == set(report["findings"][0])
    assert healthy == all(finding["verdict"] != "problem" for finding in report["findings"])


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        (":HITS", ["'hits' is as declared"]),
        (":PAIR", ["'hits' is as declared"]),
        (":ALL", ["'hits' is as declared", "there is no table 'gone'"]),
        ("", ["'hits' is as declared", "there is no table 'gone'"]),
    ],
)
def test_declarations_are_imported(module: str, attribute: str, expected: Sequence[str]) -> None:
    """From the current folder: one table, several tables, or all of a module."""
    report = json.loads(run("site.db", "--tables", module + attribute, "--json").stdout)
    messages = [f["message"] for f in report["findings"] if f["check"] == "tables"]
    assert len(expected) == len(messages)
    for start, message in zip(expected, messages, strict=True):
        assert message.startswith(start)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--tables", "no_such_module_at_all"], "ModuleNotFoundError"),
        (["--tables", "MODULE:NOTHING"], "has no 'NOTHING'"),
        (["--tables", "MODULE:NUMBER"], "expected a forebay.Table"),
        (["--tables", "json"], "expected a forebay.Table"),
        (["--integrity", "slow"], "'slow' is not one of"),
    ],
)
def test_wrong_usage_exits_with_2(module: str, options: Sequence[str], expected: str) -> None:
    """Nothing is examined."""
    result = run("site.db", *(option.replace("MODULE", module) for option in options))
    assert 2 == result.exit_code
    assert expected in result.stderr


def test_options_reach_the_examination() -> None:
    """The kind of integrity check, and further spill files."""
    write_spill("elsewhere", {HITS: []})
    result = run("site.db", "--integrity", "full", "--spill", "elsewhere", "--json")
    findings = json.loads(result.stdout)["findings"]
    assert "integrity_check found no fault" in [finding["message"] for finding in findings]
    assert "elsewhere" in [finding["values"].get("path") for finding in findings]


def test_sigint_ends_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It only reads. Afterwards the previous handler is back."""
    seen: list[object] = []

    async def examine(*_args: object, **_options: object) -> HealthReport:
        seen.append(signal.getsignal(signal.SIGINT))
        return HealthReport("site.db", ())

    monkeypatch.setattr(_doctor, "examine", examine)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert 0 == run("site.db").exit_code
        assert [signal.SIG_DFL] == seen
        assert signal.default_int_handler is signal.getsignal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_wal_reset_advice_is_the_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line, however narrow the terminal, with its link."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 40, 1))
    monkeypatch.setenv("COLUMNS", "60")
    result = run("site.db")
    *_, last = result.stdout.splitlines()
    assert last.startswith("advice  sqlite ")
    assert "WAL-reset bug" in last
    assert last.endswith("https://sqlite.org/wal.html#walresetbug")
    assert 1 == result.stdout.count("WAL-reset")
