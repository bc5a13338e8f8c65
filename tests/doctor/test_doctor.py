"""`forebay.doctor`: what needs a person is found, in real files, and nothing is changed."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from forebay import Table, Write, dead_letters, open_buffers, open_sqlite
from forebay._database import Database
from forebay._spill import write_spill
from forebay.doctor import Finding, Verdict, _checks, _examination, examine

CHECKS = (
    "sqlite file journal synchronous pages integrity foreign_keys tables conflicts dead_letters "
    "wal disk spills"
)
HITS = Table.from_columns({"url": str, "count": int}, name="hits", key="url")


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A sound database of some pages, in a folder of its own."""
    path = tmp_path / "data" / "site.db"
    path.parent.mkdir()
    async with open_sqlite(path, create=[HITS]) as store, open_buffers(store, HITS) as buffers:
        await buffers[HITS].enqueue_many((f"/{i}" * 20, i) for i in range(2_000))
    return path


def execute(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(script)


async def found(path: Path, check: str, **options: Any) -> list[Finding]:
    report = await examine(path, **options)
    return [finding for finding in report.findings if finding.check == check]


async def problem(path: Path, check: str, **options: Any) -> Finding:
    """The one problem there is; it is of this check."""
    report = await examine(path, **options)
    assert not report.healthy
    [finding] = [f for f in report.findings if f.verdict is Verdict.PROBLEM]
    assert check == finding.check
    return finding


async def test_a_sound_file_needs_nobody(path: Path) -> None:
    """Each check has its finding, and none is a problem."""
    report = await examine(path, tables=[HITS], integrity="full")
    assert report.healthy
    assert str(path) == report.path
    assert CHECKS.split() == [finding.check for finding in report.findings]
    assert {Verdict.OK} == {f.verdict for f in report.findings if f.check != "sqlite"}
    assert "integrity_check found no fault" in [finding.message for finding in report.findings]


async def test_nothing_is_changed(path: Path) -> None:
    """Not the database, not by a byte, nor its time; an empty log may be left beside it."""
    before = path.read_bytes(), path.stat().st_mtime_ns
    await examine(path, integrity="full")
    assert before == (path.read_bytes(), path.stat().st_mtime_ns)
    beside = {file.name: file.stat().st_size for file in path.parent.iterdir()}
    assert {"site.db", "site.db-wal", "site.db-shm"} >= set(beside)
    assert 0 == beside.get("site.db-wal", 0)


async def test_a_file_in_use_can_be_examined(path: Path) -> None:
    """A program that writes is not in the way, nor the other way round."""
    async with open_sqlite(path) as store, open_buffers(store, HITS) as buffers:
        await buffers[HITS].write(("/new", 1))
        assert (await examine(path)).healthy
        await buffers[HITS].write(("/newer", 1))


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 0), True),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 0), False),
    ],
)
async def test_versions_of_sqlite_with_the_wal_reset_bug_are_known(
    path: Path, monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], expected: bool
) -> None:
    """It is advice to upgrade, since two writers at the same moment are rare."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    [finding] = await found(path, "sqlite", integrity="none")
    assert (Verdict.ADVICE if expected else Verdict.OK) is finding.verdict
    assert expected == ("WAL-reset bug" in finding.message)


async def test_a_file_that_is_missing(tmp_path: Path) -> None:
    """It is not created."""
    assert "there is no file" in (await problem(tmp_path / "no.db", "file")).message
    assert [] == list(tmp_path.iterdir())


async def test_a_log_without_its_file_is_to_be_kept(path: Path) -> None:
    """It may hold what was committed last."""
    path.with_name("site.db-wal").write_bytes(b"x")
    path.unlink()
    assert "keep it" in (await problem(path, "file")).message


async def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    """Two problems, since the disk cannot be asked either."""
    report = await examine(tmp_path / "no" / "no.db")
    assert ["file", "disk"] == [f.check for f in report.findings if f.verdict is Verdict.PROBLEM]


async def test_what_is_no_regular_file(tmp_path: Path) -> None:
    """A folder, or a pipe, which would block whoever opens it."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        assert "no regular file" in (await problem(path, "file")).message


async def test_two_names_of_one_file(path: Path) -> None:
    """Each name would have its own log."""
    path.with_name("other.db").hardlink_to(path)
    assert "2 names" in (await problem(path, "file")).message


@pytest.mark.parametrize(
    ("contents", "code"),
    [
        (b"no database" * 1000, "SQLITE_NOTADB"),
        (b"SQLite format 3\0" + b"x" * 5000, "SQLITE_NOTADB"),
    ],
)
async def test_a_file_of_another_kind(path: Path, contents: bytes, code: str) -> None:
    """It is told, and nothing else is looked for in it."""
    path.write_bytes(contents)
    finding = await problem(path, "database")
    assert "SQLITE_NOTADB" == finding.values["error_code"]
    assert [] == await found(path, "integrity")


async def test_an_empty_database_is_a_problem(tmp_path: Path) -> None:
    """A file of no bytes is one, as SQLite sees it, and stands where another was expected."""
    path = tmp_path / "empty.db"
    path.touch()
    assert "this is an empty database" in (await problem(path, "tables")).message
    execute(path, "PRAGMA journal_mode = wal; PRAGMA user_version = 1")
    assert 0 < path.stat().st_size
    assert "this is an empty database" in (await problem(path, "tables")).message


async def test_rules_that_drop_rows_in_silence_are_advice(path: Path) -> None:
    """Whatever their table."""
    execute(path, "CREATE TABLE a (x INTEGER UNIQUE ON CONFLICT IGNORE)")
    [finding] = await found(path, "conflicts")
    assert Verdict.ADVICE is finding.verdict
    assert "table 'a' has a constraint with ON CONFLICT IGNORE" in finding.message


def overwrite(path: Path, page: int, contents: bytes) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(contents)


@pytest.mark.parametrize("contents", [b"\0", b"\xff"])
async def test_a_corrupt_page_is_found(path: Path, contents: bytes) -> None:
    """Whether SQLite lists the faults or gives up over them; with what to do."""
    overwrite(path, 5, contents * 4096)
    finding = await problem(path, "integrity")
    assert {"faults"} == set(finding.values) or "SQLITE_CORRUPT" == finding.values["error_code"]
    assert "recovery.html" in finding.message
    assert [] == await found(path, "integrity", integrity="none")


async def test_a_corrupt_schema_is_found(path: Path) -> None:
    """The first page's tree is unreadable: there is nothing more to look at."""
    overwrite(path, 1, path.read_bytes()[:100] + b"\xff" * 3996)
    finding = await problem(path, "database")
    assert "SQLITE_CORRUPT" == finding.values["error_code"]


async def test_a_file_cut_short_is_found(path: Path) -> None:
    """A copy that was not finished."""
    os.truncate(path, path.stat().st_size // 2)
    assert not (await examine(path)).healthy


async def test_an_index_that_lost_entries_takes_the_full_check(path: Path) -> None:
    """`quick` does not compare an index with its table; `full` does."""
    execute(path, "CREATE INDEX by_count ON hits (count)")
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(
            """
            PRAGMA writable_schema = ON;
            UPDATE sqlite_schema SET sql = 'CREATE INDEX by_count ON hits (count) WHERE count < 9'
                WHERE name = 'by_count';
            """
        )
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("INSERT INTO hits VALUES ('/missing', 50)")
        raw.commit()
        raw.executescript(
            """
            PRAGMA writable_schema = ON;
            UPDATE sqlite_schema SET sql = 'CREATE INDEX by_count ON hits (count)'
                WHERE name = 'by_count';
            """
        )
    assert (await examine(path)).healthy
    assert "by_count" in (await problem(path, "integrity", integrity="full")).message


async def test_integrity_is_one_of_three(path: Path) -> None:
    """Anything else is refused, with its value."""
    with pytest.raises(ValueError, match="integrity='slow'"):
        await examine(path, integrity="slow")  # type: ignore[arg-type]


async def test_another_journal_mode_is_advice(path: Path) -> None:
    """A store will change it."""
    execute(path, "PRAGMA journal_mode = delete")
    [finding] = await found(path, "journal")
    assert Verdict.ADVICE is finding.verdict
    assert {"journal_mode": "delete"} == finding.values


async def test_a_file_that_another_program_has_for_itself(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be looked into now."""
    monkeypatch.setattr(_examination, "_LOCK_TIMEOUT", 0.01)
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA locking_mode = exclusive")
        raw.execute("BEGIN EXCLUSIVE")
        finding = await problem(path, "database")
    assert "SQLITE_BUSY" == finding.values["error_code"]
    assert "look again" in finding.message


async def test_a_transaction_to_be_rolled_back(path: Path) -> None:
    """A program died in it, in another journal mode: a reader may not do it."""
    execute(path, "PRAGMA journal_mode = delete")
    copy = path.with_name("copy.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA cache_size = 1")
        raw.execute("BEGIN")
        raw.execute("UPDATE hits SET count = -1")
        shutil.copy(path, copy)
        shutil.copy(path.with_name("site.db-journal"), copy.with_name("copy.db-journal"))
    assert "roll it back" in (await problem(copy, "database")).message


@pytest.mark.parametrize(
    ("size", "expected"), [(5_000_000, Verdict.ADVICE), (500_000, Verdict.OK), (0, Verdict.OK)]
)
async def test_unused_pages_are_advice(path: Path, size: int, expected: Verdict) -> None:
    """When they are most of a file that is not small."""
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("CREATE TABLE big AS SELECT zeroblob(?) AS x", (size,))
    execute(path, "DROP TABLE big")
    [finding] = await found(path, "pages")
    assert expected is finding.verdict
    assert 4096 == finding.values["page_size"]


async def test_rows_without_their_parents_are_found(path: Path) -> None:
    """Counted by table and parent."""
    execute(
        path,
        """
        CREATE TABLE "vi""sits" (url TEXT REFERENCES hits (url));
        INSERT INTO "vi""sits" VALUES ('/nowhere'), ('/nowhere else'), (NULL);
        """,
    )
    finding = await problem(path, "foreign_keys")
    assert {"table": 'vi"sits', "parent": "hits", "rows": 2} == finding.values
    assert 'PRAGMA foreign_key_check("vi""sits")' in finding.message


async def test_tables_that_differ_from_their_declarations_are_found(path: Path) -> None:
    """With the SQL that would mend it."""
    other = Table.from_columns({"url": str, "seen": float}, name="hits", key="url")
    finding = await problem(path, "tables", tables=[HITS, other])
    assert "has no column 'seen'" in finding.message
    assert 'ADD COLUMN "seen"' in str(finding.values["sql"])


async def dead_letter(path: Path) -> None:
    strict = Table.from_columns({"url": str, "at": int | None}, name="visits")
    execute(path, "CREATE TABLE visits (url TEXT, at INTEGER NOT NULL)")
    async with open_sqlite(path) as store, open_buffers(store, strict) as buffers:
        await buffers[strict].enqueue_many([("/", None), ("/a", None)])


async def test_dead_letters_are_found(path: Path) -> None:
    """Counted by buffer and error."""
    await dead_letter(path)
    finding = await problem(path, "dead_letters")
    assert ("visits", "SQLITE_CONSTRAINT_NOTNULL", 2) == tuple(
        finding.values[name] for name in ("buffer", "error_code", "count")
    )


async def test_dead_letters_without_a_table_are_found(path: Path) -> None:
    """A replay could not write them."""
    await dead_letter(path)
    execute(path, "DROP TABLE visits")
    messages = [finding.message for finding in await found(path, "dead_letters")]
    assert 2 == len(messages)
    assert messages[1].startswith("some cannot be replayed: there is no table 'visits'")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("entry = 'junk'", "1: Expecting value"),
        ("declaration = 'junk'", "1: Expecting value"),
        ("history = 'junk'", "1: the history of dead letter 1 was changed"),
    ],
)
async def test_dead_letters_that_cannot_be_read_are_found(
    path: Path, change: str, expected: str
) -> None:
    """A replay would skip them: which, and why, in one finding."""
    await dead_letter(path)
    execute(path, f"UPDATE forebay_dead_letters SET {change} WHERE id = 1")  # noqa: S608
    counted, unreadable = await found(path, "dead_letters")
    assert 2 == counted.values["count"]
    assert Verdict.PROBLEM is unreadable.verdict
    assert {"unreadable": [1]} == unreadable.values
    assert expected in unreadable.message


async def test_dead_letters_that_are_gone_leave_no_trace(path: Path) -> None:
    """Their table may stay, empty."""
    await dead_letter(path)
    async with open_sqlite(path) as store:
        await dead_letters.purge(store, buffer="visits")
    assert (await examine(path)).healthy


@pytest.fixture
def spill(path: Path) -> Path:
    return write_spill(
        path.with_name("site.db-spill.jsonl"),
        {HITS: [Write(("/a", 1)), Write(("/b", 2))]},
        reason="the disk was full",
    )


async def test_a_spill_beside_the_file_is_found(path: Path, spill: Path) -> None:
    """With its entries, and why it was written."""
    finding = await problem(path, "spills")
    assert {
        "path": str(spill),
        "entries": 2,
        "imported": False,
        "reason": "the disk was full",
    } == finding.values


async def test_a_spill_elsewhere_can_be_named(path: Path, spill: Path) -> None:
    """Whatever its name; one that is beside the file too is told of once."""
    elsewhere = path.parent.parent / "left.txt"
    shutil.copy(spill, elsewhere)
    findings = await found(path, "spills", spills=[elsewhere, spill])
    assert [str(elsewhere), str(spill)] == [finding.values["path"] for finding in findings]


async def test_a_spill_of_another_database_is_told_but_no_problem(path: Path, spill: Path) -> None:
    """A replay would write its rows where they do not belong."""
    other = path.with_name("other.db")
    shutil.copy(path, other)
    async with open_sqlite(path) as store:
        mine = await store.identify()
    async with open_sqlite(other) as store:
        database = await store.identify()
    spill.unlink()
    named = write_spill(spill, {HITS: [Write(("/a", 1))]}, database=database)
    [finding] = await found(path, "spills")
    assert Verdict.OK is finding.verdict
    assert f"is of another database: {database}" in finding.message
    assert {"path": str(named), "database": str(other)} == finding.values
    moved = other.rename(path.parent.parent / "moved.db")
    await problem(moved, "spills", spills=[spill])
    spill.unlink()
    write_spill(spill, {HITS: [Write(("/a", 1))]}, database=mine)
    assert "it does not say" not in (await problem(path, "spills")).message


async def test_a_damaged_spill_of_another_database_is_not_this_ones_problem(
    path: Path, spill: Path
) -> None:
    """Its first line is enough to tell; so it is of one that was not written to its end."""
    part = spill.with_name("site.db-spill.jsonl.part")
    spill.unlink()
    write_spill(spill, {HITS: [Write(("/a", 1))]}, database=Database("/srv/other.db", None))
    part.write_text(spill.read_text().splitlines()[0])
    spill.write_text(spill.read_text() + "{")
    assert [Verdict.OK] * 2 == [f.verdict for f in await found(path, "spills")]


async def test_a_spill_that_does_not_say_its_database_is_a_problem(path: Path, spill: Path) -> None:
    """As those of early versions: somebody has to know."""
    assert (
        "if they are of this database, which it does not say"
        in (await problem(path, "spills")).message
    )


async def test_a_spill_that_was_taken_in_may_go(path: Path, spill: Path) -> None:
    """It is nobody's worry, replayed or not."""
    async with open_sqlite(path) as store:
        await dead_letters.replay(store, ids=await dead_letters.import_spill(store, spill))
    report = await examine(path)
    assert report.healthy
    assert Verdict.ADVICE is report.findings[-1].verdict
    assert "remove it" in report.findings[-1].message


async def test_a_spill_that_was_cut_off_has_its_whole_lines(path: Path, spill: Path) -> None:
    """How many, and how they are brought back; taken in, it is nobody's worry."""
    part = spill.with_name("site.db-spill.jsonl.part")
    part.write_text(spill.read_text()[:-3])
    spill.unlink()
    finding = await problem(path, "spills")
    assert {"path": str(part), "entries": 1, "imported": False} == finding.values
    assert "It has 1 entry in whole lines" in finding.message
    assert "--spill FILE --incomplete" in finding.message
    async with open_sqlite(path) as store:
        await dead_letters.replay(
            store, ids=await dead_letters.import_spill(store, part, incomplete=True)
        )
    report = await examine(path)
    assert report.healthy
    assert "remove it" in report.findings[-1].message


async def test_a_spill_of_which_a_part_was_taken_in_is_a_problem(path: Path, spill: Path) -> None:
    """The rest of it is in no table."""
    part = spill.with_name("site.db-spill.jsonl.part")
    part.write_text(spill.read_text()[:-3])
    async with open_sqlite(path) as store:
        await dead_letters.replay(
            store, ids=await dead_letters.import_spill(store, part, incomplete=True)
        )
    part.unlink()
    assert "only the first 1 of them" in (await problem(path, "spills")).message


async def test_a_spill_beside_a_lost_database_is_found(path: Path, spill: Path) -> None:
    """All the more then."""
    path.unlink()
    assert [Verdict.PROBLEM] == [f.verdict for f in await found(path, "spills")]


@pytest.mark.parametrize(
    ("name", "contents", "expected"),
    [
        ("a-spill", b'{"forebay_spill": 1, "id"', "line 1"),
        ("a-spill.part", b'{"forebay_spill": 1, "id"', "not written to its end"),
        ("notes-on-spills.txt", b"wash the floor", None),
        ("spill.db-wal", b'{"forebay_spill": 1, "id"', None),
    ],
)
async def test_files_that_may_be_spills_are_looked_at(
    path: Path, name: str, contents: bytes, expected: str | None
) -> None:
    """A damaged one is a problem; another kind of file is not opened, or not told of."""
    path.with_name(name).write_bytes(contents)
    if expected is None:
        assert (await examine(path)).healthy
    else:
        assert expected in (await problem(path, "spills")).message


async def test_a_named_spill_that_is_none(path: Path) -> None:
    """Somebody expected it to be there."""
    path.with_name("a").write_text("x")
    assert (
        "not a spill file" in (await problem(path, "spills", spills=[path.with_name("a")])).message
    )
    path.with_name("a").unlink()
    assert "No such file" in (await problem(path, "spills", spills=[path.with_name("a")])).message


async def test_a_named_spill_that_is_a_pipe(path: Path) -> None:
    """It would be waited for without end."""
    os.mkfifo(path.with_name("pipe"))
    finding = await problem(path, "spills", spills=[path.with_name("pipe")])
    assert "no regular file" in finding.message


async def test_a_large_log_is_advice(path: Path) -> None:
    """Some reader was open for long."""
    with path.with_name("site.db-wal").open("wb") as log:
        log.truncate(65 * 2**20)
    [finding] = await found(path, "wal")
    assert Verdict.ADVICE is finding.verdict


async def test_a_disk_without_room_is_found(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is full."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=99 * 2**20))
    assert {"free_bytes": 99 * 2**20} == (await problem(path, "disk")).values


async def test_a_check_that_fails_does_not_end_the_others(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its error is its finding, after what it had found."""

    def pages(raw: sqlite3.Connection) -> Iterator[Finding]:
        yield Finding("pages", Verdict.OK, "so far")
        raw.execute("no SQL")

    monkeypatch.setattr(_checks, "_pages", pages)
    findings = await found(path, "pages")
    assert [Verdict.OK, Verdict.PROBLEM] == [finding.verdict for finding in findings]
    assert "SQLITE_ERROR" == findings[1].values["error_code"]
    assert [Verdict.OK] == [f.verdict for f in await found(path, "integrity")]


async def test_an_examination_can_be_cancelled(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a statement that would never end."""
    scope = trio.CancelScope()

    def pages(raw: sqlite3.Connection) -> Iterator[Finding]:
        trio.from_thread.run_sync(scope.cancel)
        raw.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT sum(i) FROM n"
        )
        yield Finding("pages", Verdict.OK, "not reached")

    monkeypatch.setattr(_checks, "_pages", pages)
    with scope:
        await examine(path)
    assert scope.cancelled_caught
