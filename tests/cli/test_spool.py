"""`forebay spool`: what it prints, its exit codes, and what it changes; and `doctor` of a spool."""

from __future__ import annotations

import errno
import json
import os
import re
import sqlite3
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio
from click.testing import CliRunner, Result

from forebay import FlushReason, Table
from forebay._batching.coalesce import Coalescer
from forebay._table.json_format import encode_declaration
from forebay._table.operations import Delete, Write
from forebay.cli._command import command
from forebay.stores.clickhouse._attempt import TableWriter
from forebay.stores.clickhouse._encoder import BlockEncoder
from forebay.stores.clickhouse._spool_opening import lock_spool, open_spool
from forebay.stores.sqlite._dead_letter_table import insert

SERVER = "http://127.0.0.1:1"
SPOOL = "app.spool.db"


class Line(NamedTuple):
    text: str
    size: int | None


class Page(NamedTuple):
    url: str
    seen: str


lines = Table(Line, name="lines")
pages = Table(Page, name="pages", key="url")
TYPES = {
    "lines": {"text": "String", "size": "Nullable(Int64)"},
    "pages": {"url": "String", "seen": "Date"},
}
ENTRIES: dict[Table[Any], list[list[Any]]] = {
    lines: [[("a", 1), ("b", None)], [("c", 3)]],
    pages: [[("/", "2026-01-02"), Delete("/x")]],
}


async def fill() -> None:
    async with open_spool(
        str(Path(SPOOL).absolute()),
        server=SERVER,
        database="app",
        compression="gzip",
        synchronous="NORMAL",
        limit=1 << 30,
    ) as spool:
        for table, batches in ENTRIES.items():
            types = TYPES[table.name]
            await spool.save_table(
                table.name,
                declaration=encode_declaration(table),
                types=json.dumps(types),
                has_views=False,
            )
            encoder = BlockEncoder(table, "app", types, stored=True)
            writer = TableWriter(encoder, spool, version=0)
            for entries in batches:
                coalescer = Coalescer(table)
                coalescer.add(entries, only_rows=all(isinstance(e, tuple) for e in entries))
                await spool.run(writer.write, coalescer.take(FlushReason.FULL))


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    trio.run(fill)
    yield
    left = {file.name for file in tmp_path.iterdir()}
    assert left <= {SPOOL, f"{SPOOL}.lock", "dropped.jsonl", "other.db"}


def run(*arguments: str, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(command, arguments, input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def waiting() -> dict[str, int]:
    listed = json.loads(run("spool", "list", SPOOL, "--json").stdout)
    return {table: size["entries"] for table, size in listed["tables"].items()}


def test_list_shows_what_waits_by_table() -> None:
    """Blocks, rows and bytes of each table, then the oldest blocks; the rest is counted."""
    shown = run("spool", "list", SPOOL, "--limit", "2")
    assert 0 == shown.exit_code
    assert "database 'app' of http://127.0.0.1:1" in shown.stdout
    assert ["lines", "2", "3"] == shown.stdout.splitlines()[3].split()[:3]
    assert "1 more are not listed" in shown.stdout
    as_json = json.loads(run("spool", "list", SPOOL, "--json").stdout)
    assert {"lines": 3, "pages": 2} == waiting()
    assert [1, 2, 3] == [block["id"] for block in as_json["blocks"]]
    assert all(block["error"] is None and not block["sent"] for block in as_json["blocks"])


def test_the_page_shows_what_list_prints() -> None:
    """docs/operations.md has the same lines, with the columns and the states that they have."""
    page = Path(__file__).parents[2] / "docs" / "operations.md"
    shown = page.read_text().partition("```text\nFor database")[2].partition("\n```")[0]
    with closing(sqlite3.connect(SPOOL)) as raw:
        raw.execute("UPDATE forebay_spool SET sent = 1, error_code = '516' WHERE sequence = 1")
        raw.commit()
    printed = run("spool", "list", SPOOL).stdout.removeprefix("For database")

    def lines(text: str, heading: str) -> list[list[str]]:
        part = text[text.index(f"\n{heading} ") :].strip().partition("\n\n")[0]
        return [re.split(r"  +", line) for line in part.splitlines()]

    assert re.fullmatch(r" '\w+' of https?://[\w.:]+:", shown.partition("\n")[0])
    for heading in ("table", "id"):
        assert lines(shown, heading)[0] == lines(printed, heading)[0]
        assert {len(lines(shown, heading)[0])} == {len(row) for row in lines(shown, heading)}
    states = {row[-1] for row in lines(printed, "id")[1:]}
    assert {"516", "not sent yet"} == {row[-1] for row in lines(shown, "id")[1:]} == states


def test_show_has_the_statement_the_error_and_the_rows() -> None:
    """Rows are JSON, as in dead letters."""
    with closing(sqlite3.connect(SPOOL)) as raw:
        raw.execute(
            "UPDATE forebay_spool SET sent = 1, in_doubt = 1, attempts = 4, error_code = '60',"
            " error = 'no such table' WHERE sequence = 3"
        )
        raw.commit()
    shown = run("spool", "show", SPOOL, "3")
    assert 0 == shown.exit_code
    for text in ("INSERT INTO `app`.`pages`", "no such table", "may be in the table"):
        assert text in shown.stdout
    as_json = json.loads(run("spool", "show", SPOOL, "3", "--json").stdout)
    assert [
        {"write": {"url": "/", "seen": "2026-01-02"}},
        {"delete": {"url": "/x"}},
    ] == sorted(map(json.loads, as_json["rows"]), key=str, reverse=True)
    assert ("60", 4, True) == (as_json["error_code"], as_json["attempts"], as_json["in_doubt"])
    assert 2 == run("spool", "show", SPOOL, "99").exit_code


def test_a_damaged_block_is_named_and_can_be_dropped() -> None:
    """Its rows cannot be shown, so its bytes are written to the file."""
    with closing(sqlite3.connect(SPOOL)) as raw:
        [block] = raw.execute(
            "UPDATE forebay_spool SET block = substr(block, 1, 10) WHERE sequence = 1"
            " RETURNING block"
        ).fetchone()
        raw.commit()
    shown = run("spool", "show", SPOOL, "1")
    assert (2, 1) == (shown.exit_code, shown.stderr.count("block 1 cannot be read"))
    dropped = run("spool", "drop", SPOOL, "--all", "--to", "dropped.jsonl", "--yes")
    assert 0 == dropped.exit_code
    assert {} == waiting()
    lines = [json.loads(line) for line in Path("dropped.jsonl").read_text().splitlines()]
    assert [("lines", 10), ("lines", None), ("pages", None), ("pages", None)] == [
        (line["table"], len(b64decode(line["block"])) if "block" in line else None)
        for line in lines
    ]
    assert block == b64decode(lines[0]["block"])


def test_drop_asks_first_and_writes_a_file() -> None:
    """The rows of the removed blocks are in the file; the other blocks stay."""
    refused = run("spool", "drop", SPOOL, "--table", "lines", "--to", "dropped.jsonl", stdin="n\n")
    assert 1 == refused.exit_code
    assert {"lines": 3, "pages": 2} == waiting()
    assert not Path("dropped.jsonl").exists()
    dropped = run("spool", "drop", SPOOL, "--table", "lines", "--to", "dropped.jsonl", "--yes")
    assert 0 == dropped.exit_code, dropped.output
    assert {"pages": 2} == waiting()
    assert [
        {"table": "lines", "write": {"text": "a", "size": 1}},
        {"table": "lines", "write": {"text": "b", "size": None}},
        {"table": "lines", "write": {"text": "c", "size": 3}},
    ] == [json.loads(line) for line in Path("dropped.jsonl").read_text().splitlines()]
    assert 0o600 == Path("dropped.jsonl").stat().st_mode & 0o777


def test_an_empty_spool_says_so() -> None:
    """Nothing is listed, dropped or delivered, the exit codes are 0, and the doctor is content."""
    dropped = run("spool", "drop", SPOOL, "2", "--to", "dropped.jsonl", "--yes", "--json")
    assert {"blocks": 1, "rows": 1, "file": "dropped.jsonl"} == json.loads(dropped.stdout)
    Path("dropped.jsonl").unlink()
    assert 0 == run("spool", "drop", SPOOL, "--all", "--to", "dropped.jsonl", "--yes").exit_code
    Path("dropped.jsonl").unlink()
    assert {} == waiting()
    listed = run("spool", "list", SPOOL)
    assert (0, f"Nothing waits for database 'app' of {SERVER}.\n") == (
        listed.exit_code,
        listed.stdout,
    )
    again = run("spool", "drop", SPOOL, "--all", "--to", "dropped.jsonl")
    assert (0, "There are no such blocks.\n") == (again.exit_code, again.stdout)
    assert not Path("dropped.jsonl").exists()
    retried = run("spool", "retry", SPOOL, "--timeout", "3")
    assert (0, "0 rows delivered, 0 refused, 0 wait.\n") == (retried.exit_code, retried.stdout)
    examined = json.loads(run("doctor", SPOOL, "--json").stdout)
    [found] = [finding for finding in examined["findings"] if finding["check"] == "spool"]
    assert ("ok", "nothing waits for ClickHouse") == (found["verdict"], found["message"])
    assert "open_clickhouse" in str(examined)
    assert "open_sqlite" not in str(examined)


def test_a_list_without_blocks_has_the_sizes_alone() -> None:
    """All blocks are counted."""
    shown = run("spool", "list", SPOOL, "--limit", "0")
    assert 0 == shown.exit_code
    assert shown.stdout.endswith("3 more are not listed: see --limit.\n")
    assert "not sent yet" not in shown.stdout
    assert "more" not in run("spool", "list", SPOOL).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--to", "dropped.jsonl"],
        ["1", "--all", "--to", "dropped.jsonl"],
        ["99", "--to", "dropped.jsonl", "--yes"],
        ["--all", "--to", SPOOL, "--yes"],
    ],
)
def test_drop_refuses_what_is_not_clear(arguments: list[str]) -> None:
    """No block is removed, and no file is overwritten."""
    assert 2 == run("spool", "drop", SPOOL, *arguments).exit_code
    assert {"lines": 3, "pages": 2} == waiting()


def test_drop_removes_no_block_whose_rows_are_not_on_the_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The disk is full when the file is synced: the message says so, and all blocks wait."""

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("forebay.cli._spool.drop.sync_file", full)
    failed = run("spool", "drop", SPOOL, "--all", "--to", "dropped.jsonl", "--yes")
    assert (2, "Error: No space left on device\n") == (failed.exit_code, failed.stderr)
    assert {"lines": 3, "pages": 2} == waiting()


@pytest.mark.parametrize("name", ["retry", "drop"])
def test_a_spool_in_use_is_not_changed(name: str) -> None:
    """A program that uses it delivers it by itself. The other commands only read it."""
    options = ["--all", "--to", "dropped.jsonl", "--yes"] if name == "drop" else []
    descriptor = lock_spool(str(Path(SPOOL).absolute()))
    try:
        refused = run("spool", name, SPOOL, *options)
        assert (2, {"lines": 3, "pages": 2}) == (refused.exit_code, waiting())
    finally:
        os.close(descriptor)


def test_retry_tells_what_still_waits() -> None:
    """The server does not answer: nothing is lost, and the exit code says so."""
    tried = run("spool", "retry", SPOOL, "--timeout", "3", "--json")
    assert 1 == tried.exit_code
    result = json.loads(tried.stdout)
    assert (0, 5) == (result["delivered"], result["waiting"])
    assert "ConnectError" in result["last_error"]
    assert {"lines", "pages"} == result["errors"].keys()
    shown = run("spool", "retry", SPOOL, "--timeout", "1")
    assert (1, "0 rows delivered, 0 refused, 5 wait.\n") == (shown.exit_code, shown.stdout)
    # Once for both tables, and without the records that a program would log.
    [line] = shown.stderr.splitlines()
    assert line.startswith("lines, pages: ConnectError")


@pytest.mark.parametrize(
    ("table", "arguments"),
    [
        ("forebay_spool_target", ["list", SPOOL]),
        ("forebay_spool_target", ["retry", SPOOL]),
        ("forebay_spool_tables", ["show", SPOOL, "1"]),
        ("forebay_spool_tables", ["drop", SPOOL, "--all", "--to", "dropped.jsonl", "--yes"]),
    ],
)
def test_a_spool_that_lost_a_part_of_itself_is_refused(table: str, arguments: list[str]) -> None:
    """The message says what it lacks, and no block is removed."""
    with closing(sqlite3.connect(SPOOL)) as raw:
        raw.execute(f"DELETE FROM {table}")  # noqa: S608  # a name of this test
        raw.commit()
    refused = run("spool", *arguments)
    assert 2 == refused.exit_code
    assert "the spool does not" in refused.stderr
    with closing(sqlite3.connect(SPOOL)) as raw:
        assert [(3,)] == raw.execute("SELECT count(*) FROM forebay_spool").fetchall()


@pytest.mark.parametrize("name", ["list", "show", "retry", "drop"])
def test_another_database_is_refused(name: str) -> None:
    """It is not changed, and the message says what was expected."""
    with closing(sqlite3.connect("other.db")) as raw:
        raw.execute("CREATE TABLE t (a)")
    before = Path("other.db").read_bytes()
    options = {"show": ["1"], "drop": ["--all", "--to", "dropped.jsonl", "--yes"]}
    refused = run("spool", name, "other.db", *options.get(name, []))
    assert 2 == refused.exit_code
    assert "not a spool" in refused.output
    assert before == Path("other.db").read_bytes()


def test_doctor_finds_rows_that_wait_too_long() -> None:
    """What was spooled just now is no problem; an hour is one, with the last error."""
    healthy = json.loads(run("doctor", SPOOL, "--json").stdout)
    found = [finding for finding in healthy["findings"] if finding["check"] == "spool"]
    assert ["ok", "ok"] == [finding["verdict"] for finding in found]
    with closing(sqlite3.connect(SPOOL)) as raw:
        raw.execute(
            "UPDATE forebay_spool SET spooled_at = ?, error_code = '516' WHERE buffer = 'lines'",
            (time.time() - 3600,),
        )
        raw.commit()
    result = run("doctor", SPOOL, "--json")
    assert 1 == result.exit_code
    found = [f for f in json.loads(result.stdout)["findings"] if f["check"] == "spool"]
    assert ["problem", "ok"] == [finding["verdict"] for finding in found]
    assert "516" in found[0]["message"]


def test_dead_letters_of_a_spool_are_kept_by_a_replay() -> None:
    """Their tables are in ClickHouse, so the command says what to do instead."""
    with closing(sqlite3.connect(SPOOL, isolation_level=None)) as raw:
        raw.execute("BEGIN IMMEDIATE")
        insert(raw, lines, Write(("a", 1)), code="CLICKHOUSE_469", message="no", attempts=1)
        raw.execute("COMMIT")
    replayed = run("dead-letters", "replay", SPOOL)
    assert 1 == replayed.exit_code
    assert "enqueue_again" in replayed.output
    assert 1 == len(json.loads(run("dead-letters", "list", SPOOL, "--json").stdout)["letters"])
