"""The rows that the contestants write, and the check that all of them were written."""

from __future__ import annotations

import random
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from forebay import Table

Order: TypeAlias = Literal["sequential", "shuffled", "hot"]
ORDERS: tuple[Order, ...] = ("sequential", "shuffled", "hot")

TABLE = "key_value_entries"


class Entry(NamedTuple):
    """A row of the table of small values in a build cache."""

    key: str
    json_payload: str
    last_accessed_at: float
    inserted_at: float
    updated_at: float


class Visit(NamedTuple):
    """A row of the table of pages that a crawler visited."""

    url: str
    title: str
    seconds: float
    status: int


@dataclass(frozen=True)
class Workload:
    """Rows to upsert by their first column."""

    row_type: type[Any]
    rows: Sequence[Any]
    """Instances of the row type, which is a NamedTuple."""
    types: Mapping[str, str]
    """The SQL type of each column, by its name; the key first."""
    name: str = TABLE
    without_rowid: bool = False
    """Whether the table is WITHOUT ROWID. If not, it has an `id` too, and a UNIQUE key."""

    @cached_property
    def table(self) -> Table[Any]:
        """The table as a program declares it to forebay."""
        return Table(self.row_type, name=self.name, key=self.columns[0])

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the rows' columns, the key first."""
        return tuple(self.types)

    @cached_property
    def dicts(self) -> list[dict[str, Any]]:
        """The rows as dictionaries, for libraries that take those."""
        return [row._asdict() for row in self.rows]

    def first(self, count: int) -> Workload:
        """Return this workload with its first rows only, for contestants that would take hours."""
        return replace(self, rows=self.rows[:count])

    def shares(self, count: int) -> list[list[Any]]:
        """Divide the rows into parts of about the same size. All rows of a key are in one part.

        Otherwise the rows of a part are neighbours, also in memory: a processor reads neighbours
        faster, and a row that a program has just made is in its cache.
        """
        rows_of: dict[Any, list[Any]] = defaultdict(list)
        for row in self.rows:
            rows_of[row[0]].append(row)
        parts: list[list[Any]] = [[] for _ in range(count)]
        left, number = len(self.rows), 0
        for rows in sorted(rows_of.values(), key=len, reverse=True):
            parts[number].extend(rows)
            if len(parts[number]) * (count - number) >= left and number < count - 1:
                left -= len(parts[number])
                number += 1
        return parts

    def upsert(self, rows: int = 1, parameter: Callable[[str], str] = lambda _: "?") -> str:
        """Return the upsert that all contestants with SQL written by hand execute.

        Args:
            rows: the number of rows in the statement.
            parameter: the placeholder for a column.
        """
        values = ",".join([f"({','.join(map(parameter, self.columns))})"] * rows)
        key, *others = self.columns
        changes = ", ".join(f"{column} = excluded.{column}" for column in others)
        return (
            f"INSERT INTO {self.name} ({', '.join(self.columns)}) VALUES {values} "
            f"ON CONFLICT ({key}) DO UPDATE SET {changes}"
        )

    def select(self) -> str:
        """Return the query that all contestants execute to read the row of a key."""
        return f"SELECT {', '.join(self.columns)} FROM {self.name} WHERE {self.columns[0]} = ?"

    def create(self, path: Path) -> None:
        """Create the database with an empty table."""
        key, *others = (f"{column} {kind}" for column, kind in self.types.items())
        if self.without_rowid:
            columns, options = [f"{key} NOT NULL PRIMARY KEY", *others], "WITHOUT ROWID"
        else:
            columns, options = ["id INTEGER PRIMARY KEY", f"{key} NOT NULL UNIQUE", *others], ""
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = wal")
            connection.execute(f"CREATE TABLE {self.name} ({', '.join(columns)}) {options}")

    def fill(self, path: Path) -> None:
        """Create the database with a table that has the rows."""
        self.create(path)
        with closing(sqlite3.connect(path)) as connection:
            connection.executemany(self.upsert(), self.rows)
            connection.commit()

    def check(self, path: Path, *, where: str = "true") -> None:
        """Check that the table has the rows of this workload, by count and checksum.

        Args:
            path: the database.
            where: an SQL condition that selects the rows to compare.

        Raises:
            AssertionError: the table has other rows.
        """
        with closing(sqlite3.connect(path)) as connection:
            found = connection.execute(
                f"SELECT {', '.join(self.columns)} FROM {self.name} WHERE {where}"
            ).fetchall()
        got = (len(found), sum(map(hash, found)))
        if got != self._expected:
            raise AssertionError(f"expected rows and checksum {self._expected}, found {got}")

    @cached_property
    def _expected(self) -> tuple[int, int]:
        last = {row[0]: tuple(row) for row in self.rows}
        return len(last), sum(map(hash, last.values()))


def entries(order: Order, count: int, *, payload: int = 30) -> Workload:
    """Return rows of five columns, six with the `id` of the table; keys have 28 characters.

    Args:
        order: `sequential`: keys in order; `shuffled`: the same keys shuffled; `hot`: as many rows,
            most of them with one of a few keys.
        count: the number of rows.
        payload: the length of the payload, in characters.
    """
    rows = [
        Entry(
            key=f"key-{number:024d}",
            json_payload=f'{{"v":"{number:0{payload - 8}d}"}}',
            last_accessed_at=1.7e9 + at,
            inserted_at=1.7e9,
            updated_at=1.7e9 + number,
        )
        for at, number in enumerate(_numbers(order, count))
    ]
    types = ("TEXT", "TEXT", "REAL", "REAL", "REAL")
    return Workload(Entry, rows, dict(zip(Entry._fields, types, strict=True)))


def visits(order: Order, count: int, *, without_rowid: bool = False) -> Workload:
    """Return rows of four columns, as the programs in the documentation have them.

    Args:
        order: as for `entries`.
        count: the number of rows.
        without_rowid: whether the table is WITHOUT ROWID.
    """
    rows = [
        Visit(
            url=f"https://example.org/{number:08d}",
            title=f"The title of page {number:012d}",
            seconds=at / 1000,
            status=200,
        )
        for at, number in enumerate(_numbers(order, count))
    ]
    types = dict(zip(Visit._fields, ("TEXT", "TEXT", "REAL", "INTEGER"), strict=True))
    return Workload(Visit, rows, types, "visits", without_rowid)


def _numbers(order: Order, count: int) -> list[int]:
    if order == "hot":
        draw = random.Random(2).random
        return [int(count * draw() ** 6) for _ in range(count)]
    numbers = list(range(count))
    if order == "shuffled":
        random.Random(1).shuffle(numbers)
    return numbers


def wide_entries(columns: int, count: int) -> Workload:
    """Return shuffled rows with this number of columns, including the `id` of the table."""
    others = {f"c{i}": (int, float, str)[i % 3] for i in range(columns - 2)}
    make: Any = NamedTuple
    row_type = make("Wide", [("key", str), *others.items()])
    sql = {int: "INTEGER", float: "REAL", str: "TEXT"}
    rows = [
        row_type(
            f"key-{number:024d}", *(kind(number + i) for i, kind in enumerate(others.values()))
        )
        for number in _numbers("shuffled", count)
    ]
    return Workload(
        row_type, rows, {"key": "TEXT", **{name: sql[kind] for name, kind in others.items()}}
    )
