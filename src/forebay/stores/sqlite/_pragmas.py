"""SQLite's pragmas: what each one does, and so where a store allows it.

The tables below are the only place that decides on a pragma: `sort_settings` applies them to the
argument `pragmas` of `open_sqlite`, and `only_reads` to queries. A pragma that is in none of them
is refused in both. SQLite describes its pragmas in https://sqlite.org/pragma.html.
"""

from __future__ import annotations

import difflib
import enum
import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from forebay._errors import StoreError
from forebay.sqlite._opening import pragma_statement

_QUERIES: Final = frozenset(
    [
        "collation_list",
        "compile_options",
        "data_version",
        "database_list",
        "foreign_key_check",
        "foreign_key_list",
        "freelist_count",
        "function_list",
        "index_info",
        "index_list",
        "index_xinfo",
        "integrity_check",
        "module_list",
        "page_count",
        "pragma_list",
        "quick_check",
        "table_info",
        "table_list",
        "table_xinfo",
    ]
)
"""The pragmas that only read, with and without an argument."""

_ACTIONS: Final = frozenset(["incremental_vacuum", "optimize", "shrink_memory", "wal_checkpoint"])
"""The pragmas that do something, with and without an argument."""


class _Scope(enum.Enum):
    """Where a setting has to be made."""

    CONNECTION = enum.auto()
    """In every connection of the store."""
    WRITER = enum.auto()
    """In the connection that writes, because it matters to no other."""
    NEW_FILE = enum.auto()
    """In the file, before it has a table. SQLite ignores it later."""
    VALUE = enum.auto()
    """In the file, at any time: a number that SQLite stores for the program."""


@dataclass(frozen=True, slots=True)
class _Setting:
    """A pragma that `open_sqlite` sets, and the values that SQLite understands.

    SQLite does not refuse any other value: it ignores it, or takes it for 0.
    """

    scope: _Scope
    numbers: range = range(0)
    words: tuple[str, ...] = ()


_BOOLEAN: Final = (range(2), ("on", "off", "yes", "no", "true", "false"))
_INT32: Final = (range(-(2**31), 2**31),)
_INT64: Final = (range(-(2**63), 2**63),)
_PAGE_SIZES: Final = (range(0), ("512", "1024", "2048", "4096", "8192", "16384", "32768", "65536"))
_ENCODINGS: Final = (range(0), ("utf-8", "utf-16", "utf-16le", "utf-16be"))

_SETTINGS: Final[Mapping[str, _Setting]] = {
    "analysis_limit": _Setting(_Scope.WRITER, *_INT32),
    "application_id": _Setting(_Scope.VALUE, *_INT32),
    "auto_vacuum": _Setting(_Scope.NEW_FILE, range(3), ("none", "full", "incremental")),
    "automatic_index": _Setting(_Scope.CONNECTION, *_BOOLEAN),
    "cache_size": _Setting(_Scope.CONNECTION, *_INT32),
    "cache_spill": _Setting(_Scope.CONNECTION, _INT32[0], _BOOLEAN[1]),
    "case_sensitive_like": _Setting(_Scope.CONNECTION, *_BOOLEAN),
    "cell_size_check": _Setting(_Scope.CONNECTION, *_BOOLEAN),
    "checkpoint_fullfsync": _Setting(_Scope.WRITER, *_BOOLEAN),
    "encoding": _Setting(_Scope.NEW_FILE, *_ENCODINGS),
    "foreign_keys": _Setting(_Scope.CONNECTION, *_BOOLEAN),
    "fullfsync": _Setting(_Scope.WRITER, *_BOOLEAN),
    "hard_heap_limit": _Setting(_Scope.WRITER, *_INT64),
    "ignore_check_constraints": _Setting(_Scope.WRITER, *_BOOLEAN),
    "journal_mode": _Setting(_Scope.WRITER, words=("wal",)),
    "journal_size_limit": _Setting(_Scope.WRITER, *_INT64),
    "legacy_alter_table": _Setting(_Scope.WRITER, *_BOOLEAN),
    "locking_mode": _Setting(_Scope.WRITER, words=("normal",)),
    "max_page_count": _Setting(_Scope.WRITER, *_INT32),
    "mmap_size": _Setting(_Scope.CONNECTION, *_INT64),
    "page_size": _Setting(_Scope.NEW_FILE, *_PAGE_SIZES),
    "query_only": _Setting(_Scope.WRITER, *_BOOLEAN),  # if it is on, opening ends with StoreError
    "recursive_triggers": _Setting(_Scope.CONNECTION, *_BOOLEAN),
    "reverse_unordered_selects": _Setting(_Scope.CONNECTION, *_BOOLEAN),
    "secure_delete": _Setting(_Scope.WRITER, range(2), (*_BOOLEAN[1], "fast")),
    "soft_heap_limit": _Setting(_Scope.WRITER, *_INT64),
    "synchronous": _Setting(_Scope.WRITER, range(4), ("off", "normal", "full", "extra")),
    "temp_store": _Setting(_Scope.CONNECTION, range(3), ("default", "file", "memory")),
    "threads": _Setting(_Scope.CONNECTION, *_INT32),
    "trusted_schema": _Setting(_Scope.CONNECTION, *_BOOLEAN),
    "user_version": _Setting(_Scope.VALUE, *_INT32),
    "wal_autocheckpoint": _Setting(_Scope.WRITER, *_INT32),
}
"""The settings with which a store works. The heap limits are those of the whole process."""

_OBSOLETE: Final = "SQLite has it for old programs only"

_REFUSED: Final[Mapping[str, str]] = {
    "busy_timeout": "use the argument busy_timeout of open_sqlite",
    "count_changes": _OBSOLETE,
    "data_store_directory": _OBSOLETE,
    "default_cache_size": f"{_OBSOLETE}; use cache_size",
    "defer_foreign_keys": "SQLite turns it off at each COMMIT; declare the foreign keys DEFERRABLE "
    "INITIALLY DEFERRED",
    "empty_result_callbacks": _OBSOLETE,
    "full_column_names": _OBSOLETE,
    "journal_mode": "the store needs WAL mode, and sets it; in every other mode readers and the "
    "writer wait for each other",
    "locking_mode": "with EXCLUSIVE, the writer locks out the read connections of the store",
    "read_uncommitted": "it has no effect, because the connections of a store share no cache",
    "schema_version": "a wrong number can corrupt the database",
    "short_column_names": _OBSOLETE,
    "temp_store_directory": f"{_OBSOLETE}; set the environment variable SQLITE_TMPDIR",
    "writable_schema": "a wrong schema corrupts the database; set it in store.run, for one "
    "migration",
}
"""The settings, or their other values, with which a store does not work; why, or what to use."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The argument `pragmas` of `open_sqlite`, by where each of them has to be set.

    Attributes:
        readers: for the connections that read.
        writer: for the connection that writes, to set before the file has a table.
        values: numbers to store in the file.
    """

    readers: Mapping[str, str | int]
    writer: Mapping[str, str | int]
    values: Mapping[str, str | int]


def sort_settings(pragmas: Mapping[str, str | int]) -> Settings:
    """Check that a store works with these pragmas, and sort them by where they have to be set.

    Raises:
        ValueError: a pragma is unknown, is not a setting, or does not work with this value.
        TypeError: a value is neither a str nor an int.
    """
    readers: dict[str, str | int] = {}
    writer: dict[str, str | int] = {}
    values: dict[str, str | int] = {}
    for pragma, value in pragmas.items():
        scope = _checked_scope(pragma, value)
        if scope is _Scope.VALUE:
            values[pragma] = value
        else:
            writer[pragma] = value
        if scope is _Scope.CONNECTION:
            readers[pragma] = value
    return Settings(readers, writer, values)


def _checked_scope(pragma: str, value: str | int) -> _Scope:
    if not isinstance(value, str | int):
        raise TypeError(f"pragmas: {pragma!r} is {value!r}, expected a str or an int")
    schema, _, name = pragma.lower().rpartition(".")
    setting = _SETTINGS.get(name)
    why = f" ({_REFUSED[name]})" if name in _REFUSED else ""
    if name in _QUERIES or name in _ACTIONS:
        use = "store.fetch_all" if name in _QUERIES else "a connection of forebay.sqlite"
        raise ValueError(f"pragmas: {pragma!r} is not a setting; execute it with {use}")
    if setting is None and not why:
        close = difflib.get_close_matches(name, _SETTINGS, n=1)
        meant = f"did you mean {close[0]!r}?" if close else f"expected one of {[*_SETTINGS]}"
        raise ValueError(f"pragmas: {pragma!r} is unknown; {meant}")
    if setting is None:
        raise ValueError(f"pragmas: {pragma!r} does not work with a store{why}; remove it")
    if schema not in ("", "main"):
        raise ValueError(f"pragmas: {pragma!r} is not a setting of the file; use 'main.{name}'")
    if not _is_understood(value, setting):
        expected = [repr(word) for word in setting.words]
        if setting.numbers:
            expected.append(f"a number from {setting.numbers[0]} to {setting.numbers[-1]}")
        raise ValueError(f"pragmas: {pragma!r} is {value!r}, expected {' or '.join(expected)}{why}")
    return setting.scope


def _is_understood(value: str | int, setting: _Setting) -> bool:
    text = value.lower() if isinstance(value, str) else str(int(value))
    if text in setting.words:
        return True
    return re.fullmatch("[+-]?[0-9]+", text) is not None and int(text) in setting.numbers


def check_new_file(raw: sqlite3.Connection, settings: Settings) -> None:
    """Check that the settings for a new file took effect.

    Raises:
        StoreError: the file has tables, and was created with another setting.
    """
    with closing(sqlite3.connect(":memory:")) as new:
        for pragma, value in settings.writer.items():
            name = pragma.lower().rpartition(".")[2]
            if _SETTINGS[name].scope is not _Scope.NEW_FILE:
                continue
            new.execute(pragma_statement(pragma, value)).close()
            [expected] = new.execute(f"PRAGMA {name}").fetchone()
            [actual] = raw.execute(f"PRAGMA {name}").fetchone()
            if actual != expected:
                raise StoreError(
                    f"pragmas: {pragma!r} is {value!r}, but the database was created with "
                    f"{actual!r}, and SQLite does not change it in a database that has tables; "
                    f"remove it from pragmas"
                )


def store_values(raw: sqlite3.Connection, settings: Settings) -> None:
    """Store the numbers of the program in the file, in the open transaction."""
    for pragma, value in settings.values.items():
        raw.execute(pragma_statement(pragma, value)).close()


def only_reads(pragma: str, argument: str | None) -> bool:
    """Return whether a pragma reads and changes nothing.

    Args:
        pragma: its name.
        argument: its value or argument; None if there is none.
    """
    name = pragma.lower()
    return name in _QUERIES or (argument is None and (name in _SETTINGS or name in _REFUSED))
