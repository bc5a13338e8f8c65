"""How the commands of `forebay dead-letters` fail."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli.dead_letters.site import execute, left, rows, run


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["purge", "site.db"], "which letters? Give IDs"),
        (["purge", "site.db", "--all", "1"], "--all removes all letters"),
        (["purge", "site.db", "--all", "--older-than", "7d"], "--all removes all letters"),
        (["purge", "site.db", "--older-than", "soon"], "expected a number with a unit"),
        (["purge", "site.db", "1", "7", "8", "--yes"], "no dead letter 7, 8; nothing was changed"),
        (["replay", "site.db", "7"], "no dead letter 7; nothing was changed"),
        (["replay", "site.db", "1", "--spill", "site.db"], "do not give IDs"),
        (["replay", "site.db", "--any-database"], "--any-database needs --spill"),
        (["show", "site.db", "7"], "there is no dead letter 7"),
        (["replay", "site.db", "--incomplete"], "--incomplete needs --spill"),
        (["list", "no.db"], "does not exist"),
        (["show", "no.db", "1"], "does not exist"),
        (["purge", "no.db", "1"], "does not exist"),
        (["list", "."], "is a folder"),
        (["list", "empty"], "is empty"),
        (["replay", "empty"], "is empty"),
        (["purge", "empty", "1", "--yes"], "is empty"),
        (["replay", "no.db"], "does not exist"),
        (["list", "text"], "file is not a database"),
        (["replay", "text"], "file is not a database"),
        (["purge", "text", "1"], "file is not a database"),
    ],
)
def test_a_command_that_cannot_run_says_why(arguments: Sequence[str], expected: str) -> None:
    """It exits with 2, and changes and creates nothing."""
    Path("text").write_text("no database, though a file with some text in it" * 100)
    Path("empty").touch()
    result = run(*arguments)
    assert 2 == result.exit_code
    assert 0 == Path("empty").stat().st_size
    assert expected in " ".join(result.stderr.split())
    assert [1, 2, 3] == left()
    assert not Path("no.db").exists()


def test_a_replay_that_cannot_write_keeps_the_letters() -> None:
    """Its error says so."""
    execute(
        "CREATE TRIGGER no BEFORE DELETE ON forebay_dead_letters "
        "BEGIN SELECT no_such_function(); END"
    )
    execute("INSERT INTO pages VALUES ('/')")
    result = run("replay", "site.db", "1")
    assert 2 == result.exit_code
    assert "no_such_function" in result.stderr
    assert "Letters that were not replayed are still there" in result.stderr
    assert [1, 2, 3] == left()
    assert [] == rows("SELECT * FROM visits")


@pytest.mark.parametrize(
    "arguments",
    [["replay", "site.db", "7"], ["show", "site.db", "7"], ["list", "text"], ["list", "no.db"]],
)
def test_a_failure_with_json_prints_a_document(arguments: Sequence[str]) -> None:
    """On standard output; standard error has the line for a person."""
    Path("text").write_text("no database, though a file with some text in it" * 100)
    result = run(*arguments, "--json")
    assert 2 == result.exit_code
    error = json.loads(result.stdout)["error"]
    assert f"Error: {error}\n" == result.stderr


def test_one_of_two_concurrent_replays_fails() -> None:
    """Its transaction is rolled back: each entry is committed once."""
    # The other replay removes the letters after this one has read them, before it commits.
    execute(
        "INSERT INTO pages VALUES ('/');"
        "CREATE TRIGGER winner AFTER INSERT ON visits BEGIN DELETE FROM forebay_dead_letters; END"
    )
    result = run("replay", "site.db", "1", "--json")
    assert 2 == result.exit_code
    assert "another process replays or purges them" in json.loads(result.stdout)["error"]
    assert [1, 2, 3] == left()
    assert [] == rows("SELECT * FROM visits")
