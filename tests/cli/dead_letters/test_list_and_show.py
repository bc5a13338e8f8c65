"""`forebay dead-letters list` and `show`: what they print."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli.dead_letters.site import document, execute, run


def test_a_list_counts_the_letters_and_lists_the_newest() -> None:
    """Counts by table and error, then the letters, newest first. The database is only read."""
    before = Path("site.db").read_bytes()
    result = run("list", "site.db", "--limit", "2")
    assert 0 == result.exit_code
    assert before == Path("site.db").read_bytes()
    lines = [line.split() for line in result.stdout.splitlines()]
    foreign, null = "SQLITE_CONSTRAINT_FOREIGNKEY", "SQLITE_CONSTRAINT_NOTNULL"
    first, second, third = (f"2023-11-14T22:13:2{i}Z" for i in (1, 2, 3))
    assert [
        ["letters", "table", "error", "oldest", "newest"],
        ["2", "visits", foreign, first, second],
        ["1", "visits", null, third, third],
        [],
    ] == lines[:4]
    assert [["3", third, "1", "visits", "write"], ["2", second, "1", "visits", "write"]] == [
        line[:5] for line in lines[5:7]
    ]
    assert "1 more are not listed" in result.stdout


def test_a_list_without_letters_has_the_counts_alone() -> None:
    """All letters are counted."""
    lines = run("list", "site.db", "--limit", "0").stdout.splitlines()
    assert ["letters", "2", "1"] == [line.split()[0] for line in lines[:3]]
    assert "3 more are not listed" in lines[-1]
    assert not any("write" in line for line in lines)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], [3, 2, 1]),
        (["--error", "SQLITE_CONSTRAINT_NOTNULL"], [3]),
        (["--buffer", "pages"], []),
        (["--limit", "1"], [3]),
        (["--limit", "0"], []),
    ],
)
def test_a_list_in_json(options: Sequence[str], expected: list[int]) -> None:
    """Letters and counts; entries and declarations are JSON, not strings."""
    listed = document("list", "site.db", *options)
    assert expected == [letter["id"] for letter in listed["letters"]]
    if expected == [3, 2, 1]:
        assert [2, 1] == [count["count"] for count in listed["counts"]]
        assert {"write": {"page": "/", "at": None}} == listed["letters"][0]["entry"]
        assert "visits" == listed["letters"][0]["declaration"]["name"]
        assert 1700000003 == listed["letters"][0]["failure"]["failed_at"]


def test_a_database_without_dead_letters() -> None:
    """The commands say so."""
    execute("DELETE FROM forebay_dead_letters")
    assert "No dead letters.\n" == run("list", "site.db").stdout
    assert "0 replayed.\nNo dead letters.\n" == run("replay", "site.db").stdout
    assert {"counts": [], "letters": []} == document("list", "site.db")


@pytest.mark.parametrize("command_name", ["list", "replay"])
@pytest.mark.parametrize("option", [("--buffer", "visit"), ("--error", "NOTNULL")])
def test_a_condition_without_letters_may_be_misspelt(
    command_name: str, option: tuple[str, str]
) -> None:
    """The tables and codes that have letters are named."""
    result = run(command_name, "site.db", *option)
    assert 0 == result.exit_code
    assert (
        "No such dead letters. There are 2 of table 'visits' with SQLITE_CONSTRAINT_FOREIGNKEY, "
        "1 of table 'visits' with SQLITE_CONSTRAINT_NOTNULL."
    ) == result.stdout.splitlines()[-1]


def test_show_prints_all_of_a_letter() -> None:
    """Its history too, the last failure first; control characters are escaped."""
    execute("INSERT INTO pages VALUES ('/')")
    assert 1 == run("replay", "site.db", "2").exit_code
    execute("UPDATE forebay_dead_letters SET error = 'cls ' || char(27) || '[2J'")
    result = run("show", "site.db", "2")
    assert 0 == result.exit_code
    assert r"cls \x1b[2J" in result.stdout
    names = [line.split()[0] for line in result.stdout.splitlines()]
    expected = "id table operation entry error failed tries before declared"
    assert expected.split() == names
    assert r"/a\u001b[31m" in result.stdout
    assert "\x1b" not in result.stdout
    shown = document("show", "site.db", "2")
    assert (2, 2, 1) == (shown["id"], shown["attempts"], len(shown["history"]))
    assert {"write": {"page": "/a\x1b[31m", "at": 2}} == shown["entry"]


HOSTILE = "\x1b[2J\x9b31m\u202e\u2066\r\x07"
"""Characters that would control a terminal, one of each kind: C0, C1, text direction."""


@pytest.mark.parametrize(
    "arguments",
    [["show", "site.db", "1"], ["list", "site.db"], ["replay", "site.db"]],
)
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_control_characters_are_escaped(arguments: Sequence[str], options: Sequence[str]) -> None:
    """In values, names of columns and tables, and errors; JSON keeps its meaning."""
    name = json.dumps(HOSTILE)[1:-1]
    execute(
        f"UPDATE forebay_dead_letters SET buffer = '{HOSTILE}', error = '{HOSTILE}',"  # noqa: S608  # ours
        f" entry = replace(entry, 'page', '{name}'), declaration = '{HOSTILE}' WHERE id = 1"
    )
    execute(f"UPDATE forebay_dead_letters SET entry = replace(entry, 'at', '{name}') WHERE id = 2")  # noqa: S608  # ours
    output = run(*arguments, *options).output
    assert output.replace("\n", "").isprintable()
    if options and arguments[0] == "show":
        shown = json.loads(output)
        assert (HOSTILE, HOSTILE) == (shown["buffer"], shown["failure"]["error"])


def test_a_letter_that_was_damaged_can_be_shown() -> None:
    """What cannot be decoded is shown as it is in the file."""
    execute("UPDATE forebay_dead_letters SET entry = '{', failed_at = 1e300 WHERE id = 1")
    assert "{" == document("show", "site.db", "1")["entry"]
    assert "1e+300" in run("list", "site.db").stdout


@pytest.mark.parametrize("entry", ['{"write": {"page": "\\ud800", "at": 1}}', "[" * 100_000])
def test_a_letter_of_any_text_can_be_shown(entry: str) -> None:
    """A lone surrogate, or JSON that is nested too deep: for a person and for a script."""
    execute(f"UPDATE forebay_dead_letters SET entry = '{entry}' WHERE id = 1")  # noqa: S608  # ours
    assert 0 == run("show", "site.db", "1").exit_code
    assert document("show", "site.db", "1")["entry"]
    assert 1 == run("replay", "site.db", "1").exit_code


@pytest.mark.parametrize("name", ["list", "show", "replay", "purge"])
def test_each_help_has_the_exit_codes(name: str) -> None:
    """A script needs them."""
    assert "Exit codes:\n    0    " in run(name, "--help").stdout


def test_it_is_a_command_of_the_package() -> None:
    """`python -m forebay dead-letters`."""
    arguments = [sys.executable, "-m", "forebay", "dead-letters", "list", "site.db", "--json"]
    listed = json.loads(subprocess.run(arguments, check=True, capture_output=True).stdout)
    assert 3 == len(listed["letters"])
