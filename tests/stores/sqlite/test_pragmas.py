"""Pragmas: which of them `open_sqlite` sets, and where; which of them a query may execute."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from forebay import StoreError, Table, open_buffers, open_sqlite
from forebay.stores.sqlite import _pragmas

EVENTS = Table.from_columns({"kind": str, "number": int}, name="events")

with closing(sqlite3.connect(":memory:")) as _raw:
    KNOWN = sorted(name for (name,) in _raw.execute("PRAGMA pragma_list"))
"""The pragmas of the SQLite with which the tests run."""


async def values(path: Path, name: str, pragmas: dict[str, str | int]) -> list[Any]:
    """Return the value that a pragma has for the writer, and the one that it has for a reader."""
    async with open_sqlite(path, create=[EVENTS], pragmas=pragmas) as store:
        written = await store.run(lambda raw: raw.execute(f"PRAGMA {name}").fetchone())
        async with open_buffers(store, EVENTS) as buffers:
            await buffers[EVENTS].write(("a", 1))
        assert ("a", 1) == await store.fetch_one("SELECT * FROM events")
        return [written, await store.fetch_one(f"PRAGMA {name}")]


def test_every_pragma_of_sqlite_is_in_one_of_the_tables() -> None:
    """A pragma that is in none of them would be refused as unknown."""
    decided = {
        *_pragmas._QUERIES,  # the tables are what is tested
        *_pragmas._ACTIONS,  # see above
        *_pragmas._SETTINGS,  # see above
        *_pragmas._REFUSED,  # see above
    }
    assert [] == [name for name in KNOWN if name not in decided]


@pytest.mark.parametrize(
    ("name", "given", "found"),
    [
        ("cache_size", -777, -777),
        ("cache_size", "-777", -777),
        ("foreign_keys", "ON", 1),
        ("temp_store", "memory", 2),
        ("mmap_size", 2**20, 2**20),
        ("recursive_triggers", True, 1),
        ("reverse_unordered_selects", 1, 1),
        ("cache_spill", 1_000, 1_000),
        ("threads", 2, 2),
    ],
)
async def test_a_setting_of_connections_is_made_on_each(
    path: Path, name: str, given: str | int, found: int
) -> None:
    """The writer and the readers have it."""
    assert [(found,), (found,)] == await values(path, name, {name: given})


@pytest.mark.parametrize(
    ("name", "given", "found"),
    [
        ("wal_autocheckpoint", 7, 7),
        ("journal_size_limit", 2**40, 2**40),
        ("secure_delete", "fast", 2),
        ("max_page_count", 5_000, 5_000),
        ("ignore_check_constraints", "yes", 1),
        ("analysis_limit", 100, 100),
        ("synchronous", "extra", 3),
        ("legacy_alter_table", 1, 1),
    ],
)
async def test_a_setting_for_writes_is_made_on_the_writer(
    path: Path, name: str, given: str | int, found: int
) -> None:
    """The readers keep SQLite's default, and they work."""
    written, read = await values(path, name, {name: given})
    assert ((found,), True) == (written, read != (found,))


@pytest.mark.parametrize("name", ["user_version", "application_id"])
@pytest.mark.parametrize("number", [7, "-7", 2**31 - 1])
async def test_a_number_for_the_file_is_stored(path: Path, name: str, number: str | int) -> None:
    """It is in the file after the store is closed, and a store without `pragmas` keeps it."""
    assert [(int(number),)] * 2 == await values(path, name, {name: number})
    assert [(int(number),)] * 2 == await values(path, name, {})


@pytest.mark.parametrize(
    ("name", "given", "found"),
    [
        ("page_size", 8192, 8192),
        ("auto_vacuum", "incremental", 2),
        ("encoding", "UTF-16le", "UTF-16le"),
    ],
)
async def test_a_property_of_a_new_file_is_set_or_refused(
    path: Path, name: str, given: str | int, found: str | int
) -> None:
    """A new file gets it. SQLite ignores it if the file has tables, so the store refuses it."""
    assert [(found,)] * 2 == await values(path, name, {name: given})
    async with open_sqlite(path, pragmas={name: given}):  # no change, so no error
        pass
    other = path.with_name("other.db")
    with closing(sqlite3.connect(other)) as raw:
        raw.execute("CREATE TABLE t (x)")
    before = other.read_bytes()
    with pytest.raises(StoreError, match=rf"{name}.*was created with .*remove it from pragmas"):
        async with open_sqlite(other, pragmas={name: given}):
            raise AssertionError
    assert before == other.read_bytes()


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("locking_mode", "EXCLUSIVE", "expected 'normal'.*locks out the read connections"),
        ("main.Locking_Mode", "exclusive", "locks out the read connections"),
        ("journal_mode", "DELETE", "expected 'wal'.*needs WAL mode"),
        ("journal_mode", "off", "expected 'wal'"),
        ("busy_timeout", 5_000, "use the argument busy_timeout"),
        ("writable_schema", 1, "corrupts"),
        ("schema_version", 3, "corrupt"),
        ("defer_foreign_keys", 1, "at each COMMIT.*INITIALLY DEFERRED"),
        ("temp_store_directory", "/tmp", "SQLITE_TMPDIR"),  # noqa: S108  # nothing is written there
        ("default_cache_size", 100, "use cache_size"),
        ("count_changes", 1, "old programs"),
        ("table_info", "events", "is not a setting; execute it with store.fetch_all"),
        ("integrity_check", 1, "is not a setting"),
        ("wal_checkpoint", "TRUNCATE", "is not a setting; execute it with a connection"),
        ("incremental_vacuum", 10, "is not a setting"),
        ("optimize", 1, "is not a setting"),
        ("cash_size", 1, "'cash_size' is unknown; did you mean 'cache_size'"),
        ("cache_size = 1; --", 1, "is unknown"),
        ("", 1, "'' is unknown"),
        ("other.cache_size", 1, "use 'main.cache_size'"),
        ("cache_size", "lots", "is 'lots', expected a number from -2147483648 to 2147483647"),
        ("cache_size", 2**31, "is 2147483648, expected a number"),
        ("cache_size", "1_000", "is '1_000', expected a number"),
        ("user_version", 2**40, "is 1099511627776, expected a number"),
        ("user_version", "", "is '', expected a number"),
        ("mmap_size", 2**63, "expected a number"),
        ("foreign_keys", "maybe", "is 'maybe', expected 'on' or 'off'"),
        ("foreign_keys", 2, "is 2, expected 'on'"),
        ("synchronous", "sometimes", "expected 'off' or 'normal' or 'full' or 'extra'"),
        ("page_size", 1_000, "is 1000, expected '512'"),
        ("encoding", "latin1", "expected 'utf-8'"),
    ],
)
async def test_a_setting_that_cannot_work_is_refused(
    path: Path, name: str, value: str | int, why: str
) -> None:
    """The error has the name, the value, and the reason or what to use; no file is created."""
    with pytest.raises(ValueError, match=why):
        async with open_sqlite(path, pragmas={name: value}):
            raise AssertionError
    assert not path.exists()


async def test_a_value_of_another_type_is_refused(path: Path) -> None:
    """SQLite would round a float, or read None as text."""
    for value in (1.5, None, b"1"):
        with pytest.raises(TypeError, match=r"'cache_size' is .*, expected a str or an int"):
            async with open_sqlite(path, pragmas={"cache_size": value}):  # type: ignore[dict-item]
                raise AssertionError
    assert not path.exists()


async def test_the_modes_of_the_store_may_be_named(path: Path) -> None:
    """`pragmas` may have what the store sets in any case."""
    pragmas: dict[str, str | int] = {"journal_mode": "WAL", "locking_mode": "NORMAL"}
    assert [("wal",)] * 2 == await values(path, "journal_mode", pragmas)


async def test_a_number_for_the_file_waits_for_a_lock(path: Path) -> None:
    """The store stores it when the other program releases its lock, as it creates the tables."""
    async with open_sqlite(path):
        pass
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as raw:
        raw.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.3, raw.execute, ("ROLLBACK",))
        release.start()
        async with open_sqlite(path, busy_timeout=0.001, pragmas={"user_version": 3}) as store:
            assert (3,) == await store.fetch_one("PRAGMA user_version")
        await trio.to_thread.run_sync(release.join)


@pytest.mark.parametrize("name", KNOWN)
async def test_a_query_executes_only_pragmas_that_read(path: Path, name: str) -> None:
    """No pragma changes what a later query finds: not the file, not the connection."""

    async def state() -> dict[str, Any]:
        names = {each for each in KNOWN if _pragmas.only_reads(each, None)}
        names.discard("database_list")  # it gets "temp" when something reads that
        pragmas = {each: sorted(await store.fetch_all(f"PRAGMA {each}")) for each in names}
        return {**pragmas, "like": await store.fetch_all("SELECT 'a' LIKE 'A'")}

    async with open_sqlite(path, create=[EVENTS], readers=1) as store:
        before = await state()
        for argument in ("", " = 1", "(events)", " = 'memory'", " = 'exclusive'"):
            with suppress(sqlite3.DatabaseError):
                await store.fetch_all(f"PRAGMA {name}{argument}")
        after = await state()
        assert [] == [each for each in before if before[each] != after[each]]
        assert (0,) == await store.fetch_one("SELECT count(*) FROM events")


@pytest.mark.parametrize(
    "sql",
    [
        "PRAGMA case_sensitive_like = 1",
        "PRAGMA case_sensitive_like(1)",
        "PRAGMA main.user_version = 1",
        "PRAGMA locking_mode = EXCLUSIVE",
        "PRAGMA wal_checkpoint",
        "PRAGMA unknown",
    ],
)
async def test_the_error_of_a_refused_pragma_says_what_to_use(path: Path, sql: str) -> None:
    """It has the statement, and `store.run`, which executes it."""
    async with open_sqlite(path) as store:
        with pytest.raises(sqlite3.DatabaseError, match=r"may only read.*store\.run") as caught:
            await store.fetch_one(sql)
    assert repr(sql) in str(caught.value)
    assert sqlite3.SQLITE_AUTH == caught.value.sqlite_errorcode
