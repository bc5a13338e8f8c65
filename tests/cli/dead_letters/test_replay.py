"""`forebay dead-letters replay`: what it commits, and what it prints."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import forebay
from forebay import Write, dead_letters
from forebay._database import Database
from forebay._spill.writing import write_spill
from tests.cli.dead_letters.site import VISITS, document, execute, left, rows, run


def test_a_replay_of_all_letters() -> None:
    """It prints what was replayed and refused again; it exits with 1 if any letter was."""
    execute("INSERT INTO pages VALUES ('/')")
    result = run("replay", "site.db")
    assert (1, "1 replayed.\n2 refused again: 2, 3.\n") == (result.exit_code, result.stdout)
    assert [("/", 1)] == rows("SELECT * FROM visits")
    assert [2, 3] == left()
    execute("UPDATE forebay_dead_letters SET entry = replace(entry, 'null', '3')")
    execute("INSERT INTO pages VALUES (char(47, 97, 27) || '[31m')")
    result = run("replay", "site.db")
    assert (0, "2 replayed.\n") == (result.exit_code, result.stdout)
    assert [] == left()


def test_a_replay_of_some_letters_in_json() -> None:
    """Selected by id, table or error."""
    execute("INSERT INTO pages VALUES ('/')")
    replayed = document("replay", "site.db", "1", "3", exit_code=1)
    assert {"replayed": [1], "refused": [3], "skipped": []} == replayed
    replayed = document("replay", "site.db", "--buffer", "pages")
    assert {"replayed": [], "refused": [], "skipped": []} == replayed
    execute("UPDATE forebay_dead_letters SET entry = '{' WHERE id = 2")
    replayed = document("replay", "site.db", "--error", "SQLITE_CONSTRAINT_FOREIGNKEY", exit_code=1)
    assert [2] == [skipped["id"] for skipped in replayed["skipped"]]


def test_letters_that_could_not_be_tried_are_listed_by_reason() -> None:
    """Each reason is printed once, with the ids."""
    execute("DROP TABLE visits")
    result = run("replay", "site.db")
    assert 1 == result.exit_code
    assert "3 could not be tried:\n  1, 2, 3: there is no table 'visits'" in result.stdout
    assert [1, 2, 3] == left()


def test_a_replay_enforces_foreign_keys() -> None:
    """Unless they are turned off. SQLite's default would accept the entries that they refused."""
    assert 1 == run("replay", "site.db", "1").exit_code
    assert 0 == run("replay", "site.db", "1", "--no-foreign-keys").exit_code


def test_a_replay_of_a_spill() -> None:
    """Only its entries are replayed; the second time those that are left."""
    spill = write_spill("spill", {VISITS: [Write(("/", 8)), Write(("/", None))]})
    execute("INSERT INTO pages VALUES ('/')")
    result = run("replay", "site.db", "--spill", "spill")
    assert 1 == result.exit_code
    assert "1 replayed.\n1 refused again: 5.\n" in result.stdout
    assert (
        "The entries of spill are in the database now, 1 of them as a dead letter; the file may be "
        "removed." == result.stdout.splitlines()[-1]
    )
    assert spill.exists()
    assert [1, 2, 3, 5] == left()
    assert [] == document("replay", "site.db", "--spill", "spill", exit_code=1)["replayed"]
    assert [("/", 8)] == rows("SELECT * FROM visits")


def test_a_replay_of_several_spills() -> None:
    """Each file is imported once, though it is given twice."""
    for name, at in (("one", 7), ("two", 8)):
        write_spill(name, {VISITS: [Write(("/", at))]})
    execute("INSERT INTO pages VALUES ('/')")
    spills = ["--spill", "one", "--spill", "two", "--spill", "one"]
    result = run("replay", "site.db", *spills)
    assert (0, "2 replayed.") == (result.exit_code, result.stdout.splitlines()[0])
    assert [("/", 7), ("/", 8)] == rows("SELECT * FROM visits ORDER BY at")


def test_a_replay_of_a_spill_that_was_cut_off() -> None:
    """Its complete lines are imported, once, with --incomplete only."""
    write_spill("spill", {VISITS: [Write(("/", 7)), Write(("/", 8))]})
    Path("spill.part").write_text(Path("spill").read_text()[:-3])
    execute("INSERT INTO pages VALUES ('/')")
    result = run("replay", "site.db", "--spill", "spill.part")
    assert (2, True) == (result.exit_code, "--incomplete" in result.stderr)
    for replayed in ("1 replayed.", "0 replayed."):
        result = run("replay", "site.db", "--spill", "spill.part", "--incomplete")
        assert (0, replayed) == (result.exit_code, result.stdout.splitlines()[0])
    assert [("/", 7)] == rows("SELECT * FROM visits")
    assert [1, 2, 3] == left()


def test_entries_of_a_spill_that_could_not_be_tried_are_dead_letters() -> None:
    """The message says so, since they are in the database, but are not rows yet."""
    write_spill("spill", {VISITS: [Write(("/", 7)), Write(("/", 8))]})
    execute("DROP TABLE visits")
    result = run("replay", "site.db", "--spill", "spill")
    assert (1, "0 replayed.") == (result.exit_code, result.stdout.splitlines()[0])
    assert "in the database now, 2 of them as dead letters; the file" in result.stdout


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupted_replay_says_how_far_it_got(
    times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After one SIGINT, and after a second one that ended the drain."""
    execute("INSERT INTO pages VALUES ('/'), (char(47, 97, 27) || '[31m')")
    replay = dead_letters.replay

    async def interrupted(store: forebay.SqliteStore, **selection: Any) -> Any:
        assert (1,) == (await replay(store, ids=[1])).replayed
        if times == 1:
            raise KeyboardInterrupt
        raise BaseExceptionGroup("", [KeyboardInterrupt(), forebay.DrainError({})])

    monkeypatch.setattr(dead_letters, "replay", interrupted)
    result = run("replay", "site.db")
    assert 130 == result.exit_code
    assert "interrupted: 1 replayed, 2 not." in result.stderr
    assert "still there: run the replay again" in result.stderr


def test_no_spill_is_replayed_if_one_is_damaged() -> None:
    """The others are imported, and the next replay runs their entries once."""
    write_spill("one", {VISITS: [Write(("/", 7))]})
    Path("two").write_text("{}")
    execute("INSERT INTO pages VALUES ('/')")
    assert 2 == run("replay", "site.db", "--spill", "one", "--spill", "two").exit_code
    assert [] == rows("SELECT * FROM visits")
    Path("two").unlink()
    write_spill("two", {VISITS: [Write(("/", 8))]})
    assert 0 == run("replay", "site.db", "--spill", "one", "--spill", "two").exit_code
    assert [("/", 7), ("/", 8)] == rows("SELECT * FROM visits ORDER BY at")


def test_a_spill_of_another_database_is_refused() -> None:
    """With --any-database it is imported all the same."""
    database = Database("/srv/other.db", "a1")
    write_spill("spill", {VISITS: [Write(("/", 8))]}, database=database)
    execute("INSERT INTO pages VALUES ('/')")
    result = run("replay", "site.db", "--spill", "spill")
    assert 2 == result.exit_code
    assert "the spill 'spill' belongs to the database '/srv/other.db' (id a1)" in result.stderr
    assert "--any-database" in result.stderr
    assert [1, 2, 3] == left()
    assert 0 == run("replay", "site.db", "--spill", "spill", "--any-database").exit_code
    assert [("/", 8)] == rows("SELECT * FROM visits")


def test_a_damaged_spill_is_refused() -> None:
    """The error has the line, and nothing is imported."""
    Path("spill").write_text("{}")
    result = run("replay", "site.db", "--spill", "spill")
    assert 2 == result.exit_code
    assert "'spill', line 1" in result.stderr
    assert [1, 2, 3] == left()


def test_many_reasons_are_not_all_listed() -> None:
    """Each letter may have a reason of its own; JSON has them all."""
    write_spill("spill", {VISITS: [Write(("/", i)) for i in range(30)]})
    assert 1 == run("replay", "site.db", "--spill", "spill").exit_code
    execute("UPDATE forebay_dead_letters SET entry = '{\"column ' || id || '\": 1}'")
    assert "… and more, for 13 other reasons: see --json" in run("replay", "site.db").stdout
    assert 33 == len(document("replay", "site.db", exit_code=1)["skipped"])


def test_ctrl_c_ends_a_replay_of_many_letters_early() -> None:
    """It does not wait for the letters that are left, though all of them are refused again."""
    many = 60_000
    write_spill("spill", {VISITS: [Write(("/nowhere", i)) for i in range(many)]})
    arguments = [sys.executable, "-m", "forebay", "dead-letters", "replay", "site.db"]
    with subprocess.Popen(
        [*arguments, "--spill", "spill", "--json"], stdout=subprocess.PIPE, text=True
    ) as process:
        while not tried():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate()
    assert 130 == process.returncode
    assert json.loads(output)["error"].startswith("interrupted: 0 replayed, 60,000 not")
    assert 0 < tried() < many / 2


def tried() -> int:
    """Return how many letters of the spill were refused again."""
    query = "SELECT count(*) FROM forebay_dead_letters WHERE attempts = 1 AND history <> '[]'"
    [(count,)] = rows(query)
    return int(count)
