"""`forebay dead-letters`: what it prints, what it does, what it exits with."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result

import forebay
from forebay import Table, Write, dead_letters
from forebay._database import Database
from forebay._spill import write_spill
from forebay.cli._command import command

VISITS = Table.from_columns({"page": str, "at": int | None}, name="visits")

DDL = """
    CREATE TABLE pages (url TEXT PRIMARY KEY);
    CREATE TABLE visits (page TEXT REFERENCES pages (url), at INTEGER NOT NULL);
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database with letters 1 and 2, whose pages are missing, and 3, which has no time."""
    monkeypatch.chdir(tmp_path)
    execute(DDL)

    async def refuse() -> None:
        async with (
            forebay.open_sqlite("site.db", pragmas={"foreign_keys": 1}) as store,
            forebay.open_buffers(store, VISITS) as buffers,
        ):
            await buffers[VISITS].enqueue_many([("/", 1), ("/a\x1b[31m", 2), ("/", None)])

    trio.run(refuse)
    execute("UPDATE forebay_dead_letters SET failed_at = 1700000000 + id")


def execute(script: str) -> None:
    with closing(sqlite3.connect("site.db")) as raw:
        raw.executescript(script)


def rows(query: str) -> list[Any]:
    with closing(sqlite3.connect("site.db")) as raw:
        return raw.execute(query).fetchall()


def run(*arguments: str, answer: str | None = None) -> Result:
    result = CliRunner().invoke(command, ["dead-letters", *arguments], input=answer)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def document(*arguments: str, exit_code: int = 0) -> Any:
    result = run(*arguments, "--json")
    assert exit_code == result.exit_code, result.output
    return json.loads(result.stdout)


def left() -> list[int]:
    return [letter for (letter,) in rows("SELECT id FROM forebay_dead_letters ORDER BY id")]


def test_a_list_counts_and_shows_the_last() -> None:
    """Counts by table and error, then the letters, the last first; only read."""
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
    """Letters and counts, with the entry and the declaration as JSON of their own."""
    listed = document("list", "site.db", *options)
    assert expected == [letter["id"] for letter in listed["letters"]]
    if expected == [3, 2, 1]:
        assert [2, 1] == [count["count"] for count in listed["counts"]]
        assert {"write": {"page": "/", "at": None}} == listed["letters"][0]["entry"]
        assert "visits" == listed["letters"][0]["declaration"]["name"]
        assert 1700000003 == listed["letters"][0]["failure"]["failed_at"]


def test_a_database_without_dead_letters() -> None:
    """It says so."""
    execute("DELETE FROM forebay_dead_letters")
    assert "No dead letters.\n" == run("list", "site.db").stdout
    assert "0 replayed.\nNo dead letters.\n" == run("replay", "site.db").stdout
    assert {"counts": [], "letters": []} == document("list", "site.db")


def test_show_has_all_of_a_letter() -> None:
    """Its history too, the last failure first; and nothing that would command a terminal."""
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


def test_a_letter_that_somebody_broke_can_be_shown() -> None:
    """As it is."""
    execute("UPDATE forebay_dead_letters SET entry = '{', failed_at = 1e300 WHERE id = 1")
    assert "{" == document("show", "site.db", "1")["entry"]
    assert "1e+300" in run("list", "site.db").stdout


@pytest.mark.parametrize("entry", ['{"write": {"page": "\\ud800", "at": 1}}', "[" * 100_000])
def test_a_letter_of_any_text_can_be_shown(entry: str) -> None:
    """Half a character, or JSON without end: for a person and for a script."""
    execute(f"UPDATE forebay_dead_letters SET entry = '{entry}' WHERE id = 1")  # noqa: S608
    assert 0 == run("show", "site.db", "1").exit_code
    assert document("show", "site.db", "1")["entry"]
    assert 1 == run("replay", "site.db", "1").exit_code


def test_a_replay_of_all() -> None:
    """It tells what was replayed, what was refused again, and exits with 1 if anything was."""
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


def test_a_replay_of_some_in_json() -> None:
    """By id, table or error."""
    execute("INSERT INTO pages VALUES ('/')")
    replayed = document("replay", "site.db", "1", "3", exit_code=1)
    assert {"replayed": [1], "refused": [3], "skipped": []} == replayed
    replayed = document("replay", "site.db", "--buffer", "pages")
    assert {"replayed": [], "refused": [], "skipped": []} == replayed
    execute("UPDATE forebay_dead_letters SET entry = '{' WHERE id = 2")
    replayed = document("replay", "site.db", "--error", "SQLITE_CONSTRAINT_FOREIGNKEY", exit_code=1)
    assert [2] == [skipped["id"] for skipped in replayed["skipped"]]


def test_what_could_not_be_tried_is_told_once_a_reason() -> None:
    """However many there are."""
    execute("DROP TABLE visits")
    result = run("replay", "site.db")
    assert 1 == result.exit_code
    assert "3 could not be tried:\n  1, 2, 3: there is no table 'visits'" in result.stdout
    assert [1, 2, 3] == left()


def test_foreign_keys_hold_in_a_replay() -> None:
    """Unless they are turned off: SQLite's default would let in what was refused for them."""
    assert 1 == run("replay", "site.db", "1").exit_code
    assert 0 == run("replay", "site.db", "1", "--no-foreign-keys").exit_code


def test_a_replay_of_a_spill() -> None:
    """Its entries alone; a second time there is nothing left to do."""
    spill = write_spill("spill", {VISITS: [Write(("/", 8)), Write(("/", None))]})
    execute("INSERT INTO pages VALUES ('/')")
    result = run("replay", "site.db", "--spill", "spill")
    assert 1 == result.exit_code
    assert "1 replayed.\n1 refused again: 5.\n" in result.stdout
    assert (
        "What was in spill is in the database now, 1 dead letter of it; the file may be removed."
        == result.stdout.splitlines()[-1]
    )
    assert spill.exists()
    assert [1, 2, 3, 5] == left()
    assert [] == document("replay", "site.db", "--spill", "spill", exit_code=1)["replayed"]
    assert [("/", 8)] == rows("SELECT * FROM visits")


def test_a_replay_of_several_spills() -> None:
    """Each of them, and each once."""
    for name, at in (("one", 7), ("two", 8)):
        write_spill(name, {VISITS: [Write(("/", at))]})
    execute("INSERT INTO pages VALUES ('/')")
    spills = ["--spill", "one", "--spill", "two", "--spill", "one"]
    result = run("replay", "site.db", *spills)
    assert (0, "2 replayed.") == (result.exit_code, result.stdout.splitlines()[0])
    assert [("/", 7), ("/", 8)] == rows("SELECT * FROM visits ORDER BY at")


def test_a_replay_of_a_spill_that_was_cut_off() -> None:
    """Its whole lines, once, where somebody says that they will do."""
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


def test_a_spill_whose_entries_could_not_be_tried_is_dead_letters() -> None:
    """The message says so: the file is not all that is left of them, but they are not rows."""
    write_spill("spill", {VISITS: [Write(("/", 7)), Write(("/", 8))]})
    execute("DROP TABLE visits")
    result = run("replay", "site.db", "--spill", "spill")
    assert (1, "0 replayed.") == (result.exit_code, result.stdout.splitlines()[0])
    assert "in the database now, 2 dead letters of it; the file" in result.stdout


@pytest.mark.parametrize("command_name", ["list", "replay"])
@pytest.mark.parametrize("option", [("--buffer", "visit"), ("--error", "NOTNULL")])
def test_what_nothing_is_found_of_may_be_misspelt(
    command_name: str, option: tuple[str, str]
) -> None:
    """The tables and codes that there are some of are named."""
    result = run(command_name, "site.db", *option)
    assert 0 == result.exit_code
    assert (
        "No such dead letters. There are 2 of table 'visits' with SQLITE_CONSTRAINT_FOREIGNKEY, "
        "1 of table 'visits' with SQLITE_CONSTRAINT_NOTNULL."
    ) == result.stdout.splitlines()[-1]


@pytest.mark.parametrize("times", [1, 2])
def test_sigint_during_a_replay(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was begun is finished, or given up at a second one; how far it came is told."""
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
    assert "a dead letter still: replay again" in result.stderr


def test_of_several_spills_none_is_replayed_where_one_is_damaged() -> None:
    """What was taken in is a dead letter, and the next try replays it once."""
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
    """Its rows do not belong here, unless somebody says that they do."""
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


def test_a_spill_that_is_damaged() -> None:
    """The line, and nothing taken in."""
    Path("spill").write_text("{}")
    result = run("replay", "site.db", "--spill", "spill")
    assert 2 == result.exit_code
    assert "'spill', line 1" in result.stderr
    assert [1, 2, 3] == left()


@pytest.mark.parametrize(("answer", "expected"), [("y\n", (0, [2])), ("n\n", (1, [1, 2, 3]))])
def test_a_purge_asks_first(answer: str, expected: tuple[int, list[int]]) -> None:
    """How many it would remove; no answer is no."""
    result = run("purge", "site.db", "1", "3", answer=answer)
    assert "Remove 2 dead letters for good? [y/N]" in result.stderr
    assert expected == (result.exit_code, left())


def test_a_purge_without_an_answer_does_nothing() -> None:
    """As in a script that forgot --yes."""
    assert 1 == run("purge", "site.db", "1", answer="").exit_code
    assert [1, 2, 3] == left()


@pytest.mark.parametrize(
    ("options", "purged"),
    [
        (["--older-than", "1d"], 2),
        (["--older-than", "1.5w"], 1),
        (["--older-than", "300d"], 0),
        (["--older-than", "47h"], 2),
        (["--older-than", "1000m"], 2),
        (["--older-than", "100000s"], 2),
        (["--older-than", "1d", "--error", "SQLITE_CONSTRAINT_NOTNULL"], 0),
        (["2", "--buffer", "visits"], 1),
        (["--buffer", "pages"], 0),
    ],
)
def test_a_purge_by_age_or_kind(options: Sequence[str], purged: int) -> None:
    """All conditions hold together; a script says --yes."""
    execute(
        "UPDATE forebay_dead_letters SET failed_at = strftime('%s') - 86400 * "
        "(CASE id WHEN 1 THEN 20 WHEN 2 THEN 2 ELSE 0.5 END)"
    )
    assert {"purged": purged} == document("purge", "site.db", *options, "--yes")
    assert 3 - purged == len(left())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["purge", "site.db"], "which? Give IDs"),
        (["purge", "site.db", "--older-than", "soon"], "expected a number with a unit"),
        (["purge", "site.db", "1", "7", "8", "--yes"], "no dead letter 7, 8; nothing was done"),
        (["replay", "site.db", "7"], "no dead letter 7; nothing was done"),
        (["replay", "site.db", "1", "--spill", "site.db"], "do not give IDs"),
        (["replay", "site.db", "--any-database"], "there is no --spill"),
        (["show", "site.db", "7"], "there is no dead letter 7"),
        (["replay", "site.db", "--incomplete"], "there is no --spill"),
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
def test_what_cannot_be_done_is_told(arguments: Sequence[str], expected: str) -> None:
    """With exit code 2, and nothing was changed or created."""
    Path("text").write_text("no database, though a file with some text in it" * 100)
    Path("empty").touch()
    result = run(*arguments)
    assert 2 == result.exit_code
    assert 0 == Path("empty").stat().st_size
    assert expected in " ".join(result.stderr.split())
    assert [1, 2, 3] == left()
    assert not Path("no.db").exists()


def test_a_replay_that_cannot_write_keeps_the_letters() -> None:
    """And says so."""
    execute(
        "CREATE TRIGGER no BEFORE DELETE ON forebay_dead_letters "
        "BEGIN SELECT no_such_function(); END"
    )
    execute("INSERT INTO pages VALUES ('/')")
    result = run("replay", "site.db", "1")
    assert 2 == result.exit_code
    assert "no_such_function" in result.stderr
    assert "is a dead letter still" in result.stderr
    assert [1, 2, 3] == left()
    assert [] == rows("SELECT * FROM visits")


@pytest.mark.parametrize(
    "arguments",
    [["replay", "site.db", "7"], ["show", "site.db", "7"], ["list", "text"], ["list", "no.db"]],
)
def test_a_failure_is_json_for_a_script(arguments: Sequence[str]) -> None:
    """Whatever became of it there is one document; a person is told as before."""
    Path("text").write_text("no database, though a file with some text in it" * 100)
    result = run(*arguments, "--json")
    assert 2 == result.exit_code
    error = json.loads(result.stdout)["error"]
    assert f"Error: {error}\n" == result.stderr


def test_the_loser_of_two_replays_prints_json_too() -> None:
    """Of two that run at once, each letter is done by one; what the other did is undone."""
    # The winner comes at the worst moment: the loser has read the letters, and then writes.
    execute(
        "INSERT INTO pages VALUES ('/');"
        "CREATE TRIGGER winner AFTER INSERT ON visits BEGIN DELETE FROM forebay_dead_letters; END"
    )
    result = run("replay", "site.db", "1", "--json")
    assert 2 == result.exit_code
    assert "another process replays or purges them" in json.loads(result.stdout)["error"]
    assert [1, 2, 3] == left()
    assert [] == rows("SELECT * FROM visits")


@pytest.mark.parametrize("name", ["list", "show", "replay", "purge"])
def test_each_help_has_the_exit_codes(name: str) -> None:
    """A script needs them."""
    assert "Exit codes:\n    0    " in run(name, "--help").stdout


def test_it_is_a_command_of_the_package() -> None:
    """`python -m forebay dead-letters`."""
    arguments = [sys.executable, "-m", "forebay", "dead-letters", "list", "site.db", "--json"]
    listed = json.loads(subprocess.run(arguments, check=True, capture_output=True).stdout)
    assert 3 == len(listed["letters"])
