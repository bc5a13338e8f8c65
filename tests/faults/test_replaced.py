"""If the file is deleted, renamed or replaced while it is open, nothing more is acknowledged."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import trio

import forebay
from forebay import FlushError, StoreError, Write, open_buffers, open_sqlite
from tests.faults.harness import Zygote, read
from tests.faults.tables import ENTRIES, PATIENT, TABLES, Entry


def delete(path: Path) -> None:
    path.unlink()


def delete_all(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def rename(path: Path) -> None:
    path.rename(path.with_name("elsewhere.db"))


def replace(path: Path) -> None:
    """As `cp` to a new file, then `mv` over the old one."""
    with closing(sqlite3.connect(path.with_name("new.db"))) as new:
        new.execute("CREATE TABLE entries (key TEXT PRIMARY KEY, grp INTEGER, value INTEGER)")
    path.with_name("new.db").rename(path)


def remove_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def beside(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.name}-{ending}")


def delete_beside(ending: str, path: Path) -> None:
    beside(path, ending).unlink()


def replace_beside(ending: str, path: Path) -> None:
    """As a tool that restores a backup."""
    copy = path.with_name("copy")
    shutil.copy(beside(path, ending), copy)
    copy.rename(beside(path, ending))


delete_wal = partial(delete_beside, "wal")

ACTIONS = [
    *(delete, delete_all, rename, replace, remove_folder),
    *(delete_wal, partial(replace_beside, "wal")),
    *(partial(delete_beside, "shm"), partial(replace_beside, "shm")),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder / "a.db"


@pytest.mark.parametrize("act", ACTIONS)
async def test_rows_that_went_into_another_file_are_not_acknowledged(
    path: Path, act: Callable[[Path], None]
) -> None:
    """The buffer stops before the next acknowledgement, and its error names the entries."""
    lost = [Entry("lost", 0, 1), Entry("enqueued", 0, 2)]
    with pytest.raises(FlushError) as raised:
        async with (
            open_sqlite(path, create=TABLES) as store,
            open_buffers(store, ENTRIES, options=PATIENT) as buffers,
        ):
            await buffers[ENTRIES].write(Entry("kept", 0, 0))
            act(path)
            await buffers[ENTRIES].enqueue(lost[1])
            with pytest.raises(trio.BrokenResourceError):
                await buffers[ENTRIES].write(lost[0])
    assert isinstance(raised.value.__cause__, StoreError)
    assert str(path) in str(raised.value)
    assert {Write(tuple(row)) for row in lost} == set(raised.value.unsettled.entries)
    assert [] == read(path, "SELECT * FROM entries WHERE key IN ('lost', 'enqueued')")


@pytest.mark.parametrize("ending", ["wal", "shm"])
async def test_the_files_beside_the_real_database_are_checked(path: Path, ending: str) -> None:
    """SQLite keeps them there, if the path of the store is a symbolic link."""
    link = path.parent.parent / "link.db"
    link.symlink_to(path)
    with pytest.raises(FlushError) as raised:
        async with (
            open_sqlite(link, create=TABLES) as store,
            open_buffers(store, ENTRIES, options=PATIENT) as buffers,
        ):
            await buffers[ENTRIES].write(Entry("kept", 0, 0))
            assert beside(path, "wal").stat().st_size == store.wal_size()
            delete_beside(ending, path)
            with pytest.raises(trio.BrokenResourceError):
                await buffers[ENTRIES].write(Entry("lost", 0, 1))
    assert (Write(("lost", 0, 1)),) == raised.value.unsettled.entries
    assert [] == read(path, "SELECT * FROM entries WHERE key = 'lost'")


async def test_a_link_that_leads_elsewhere_later_changes_nothing(path: Path) -> None:
    """All connections of a store use the file to which it led at first."""
    link, other = path.parent.parent / "link.db", path.with_name("other.db")
    link.symlink_to(path)
    async with open_sqlite(other, create=TABLES):
        pass
    async with (
        open_sqlite(link, create=TABLES) as store,
        open_buffers(store, ENTRIES, options=PATIENT) as buffers,
    ):
        await buffers[ENTRIES].write(Entry("one", 0, 0))
        link.unlink()
        link.symlink_to(other)
        await buffers[ENTRIES].write(Entry("two", 0, 0))
        assert [(2,)] == await store.fetch_all("SELECT count(*) FROM entries")
    assert [] == read(other, "SELECT * FROM entries")


async def test_a_transaction_of_the_program_raises_too(path: Path) -> None:
    """`store.run` raises if the rows that it wrote are lost with the file."""

    def insert_and_delete(raw: sqlite3.Connection) -> None:
        raw.execute("INSERT INTO entries VALUES ('lost', 0, 0)")
        path.unlink()

    async with open_sqlite(path, create=TABLES) as store:
        with pytest.raises(StoreError, match="was deleted or renamed while it was open"):
            await store.run(insert_and_delete)
        with pytest.raises(StoreError):
            await store.run(lambda raw: raw.execute("DELETE FROM entries").close())


@pytest.mark.parametrize("act", [delete, delete_wal])
async def test_a_file_deleted_during_a_transaction_is_noticed(
    path: Path, act: Callable[[Path], None]
) -> None:
    """The files are checked after the last statement, before COMMIT."""

    def hook(raw: sqlite3.Connection) -> None:
        raw.create_function("act", 0, partial(act, path))
        raw.execute(
            "CREATE TEMP TRIGGER acts AFTER INSERT ON entries WHEN NEW.key = 'lost' "
            "BEGIN SELECT act(); END"
        )

    with pytest.raises(FlushError) as raised:
        async with (
            open_sqlite(path, create=TABLES) as store,
            open_buffers(store, ENTRIES, options=PATIENT) as buffers,
        ):
            await store.run(hook)
            with pytest.raises(trio.BrokenResourceError):
                await buffers[ENTRIES].write(Entry("lost", 0, 0))
    assert (forebay.Write(("lost", 0, 0)),) == raised.value.unsettled.entries


def checkpoint(path: Path) -> None:
    """Empty the WAL, as a maintenance program."""
    assert [(0, 0, 0)] == read(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    assert 0 == beside(path, "wal").stat().st_size


def vacuum(path: Path) -> None:
    read(path, "VACUUM")


def come_and_go(path: Path) -> None:
    """As the SQLite shell: it opens and closes the file while ours is open."""
    read(path, "SELECT * FROM entries")


def ask_for_another_mode(path: Path) -> None:
    """SQLite refuses another journal mode while another connection is open."""
    with (
        closing(sqlite3.connect(path, timeout=0)) as raw,
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        raw.execute("PRAGMA journal_mode = delete")


@pytest.mark.parametrize("act", [checkpoint, vacuum, come_and_go, ask_for_another_mode])
async def test_changes_of_the_wal_by_sqlite_are_not_a_fault(
    zygote: Zygote, path: Path, act: Callable[[Path], None]
) -> None:
    """Neither by this process, nor by another one."""
    async with (
        open_sqlite(path, create=TABLES) as store,
        open_buffers(store, ENTRIES, options=PATIENT) as buffers,
    ):
        await buffers[ENTRIES].write(Entry("one", 0, 0))
        act(path)
        await buffers[ENTRIES].write(Entry("two", 0, 0))
        with zygote.run("writer.py", path, 0, 2) as writer:
            assert 0 == writer.wait()
        await buffers[ENTRIES].write(Entry("three", 0, 0))
    assert [(3,)] == read(
        path, "SELECT count(*) FROM entries WHERE grp = 0 AND value = 0 AND key NOT LIKE '0-%'"
    )
