"""Spill files: what a drain could not write in time, in a file that can be replayed.

One JSON value a line. The first line names the spill, and the database that it is of; then, table
by table, a line with the declaration and the number of entries, and a line for each entry, in an
order that does to the table what the order of acceptance would:

    {"forebay_spill": 1, "id": "5f…", "written_at": 1760000000.0, "reason": "…",
     "database": {"path": "/srv/site.db", "id": "a1…"}, "tables": 1}
    {"table": {"name": "hits", …}, "entries": 2}
    {"write": {"url": "/", "count": 1}}
    {"delete": {"url": "/old"}}

A first line without a database, or with null, is of a store that has no file, or of an early
version; such a spill may be of any.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from forebay._database import Database
from forebay._errors import SpillError
from forebay._table.json_format import (
    decode_declaration,
    decode_operation,
    encode_declaration,
    encode_operation,
    parse_json,
)
from forebay._table.operations import Operation
from forebay._table.table import Table

MARK: Final = '{"forebay_spill": '
"""How every spill file begins."""

_VERSION: Final = 1

_LONGEST_HEAD: Final = 2**20
"""Bytes of a first line, which has the text of an error in it."""


@dataclass(frozen=True)
class Spill:
    """What a spill file holds.

    Attributes:
        id: names this spill, no two the same, however often the file is copied.
        written_at: when it was written, in seconds since 1970, UTC.
        reason: why its entries did not reach the database.
        unsettled: the entries by their tables, in an order that has the same effect as that of
            acceptance.
        database: where the entries were to go; None where the file does not say.
    """

    id: str
    written_at: float
    reason: str
    unsettled: Mapping[Table[Any], Sequence[Operation]] = field(repr=False)
    database: Database | None = None

    @property
    def entries(self) -> int:
        """How many entries it holds."""
        return sum(map(len, self.unsettled.values()))


def write_spill(
    path: str | os.PathLike[str],
    unsettled: Mapping[Table[Any], Sequence[Operation]],
    *,
    reason: str = "",
    database: Database | None = None,
) -> Path:
    """Write entries to a new file, for its owner only; return once they are on the disk.

    The file appears whole or not at all. A file that is there is never written to: where the
    name is taken, ``.1`` is appended to it, or ``.2``, and so on.

    Args:
        path: the file.
        unsettled: the entries by their tables.
        reason: why they did not reach the database, for the person who finds the file.
        database: that database; None where there is no telling.

    Returns:
        The file that was written.

    Raises:
        OSError: it could not be written: no such folder, no permission, a full disk.
    """
    target, part = _reserve(Path(path))
    try:
        with part.open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in _lines(unsettled, reason, database))
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except BaseException:
        for file_of_ours in (part, target):
            with suppress(OSError):
                file_of_ours.unlink()
        raise
    _sync_folder(target.parent)
    return target


def _reserve(path: Path) -> tuple[Path, Path]:
    """Create two empty files that nobody else has: one with a free name, one to write to."""
    target = path
    numbers = count(1)
    while True:
        part = target.with_name(f"{target.name}.part")
        try:
            target.touch(mode=0o600, exist_ok=False)
            try:
                part.touch(mode=0o600, exist_ok=False)
            except BaseException:
                target.unlink()
                raise
        except FileExistsError:  # another spill, or the part of one that was never finished
            target = path.with_name(f"{path.name}.{next(numbers)}")
        else:
            return target, part


def _lines(
    unsettled: Mapping[Table[Any], Sequence[Operation]], reason: str, database: Database | None
) -> Iterator[str]:
    head = {
        "id": uuid4().hex,
        "written_at": time.time(),
        "reason": reason,
        "database": None if database is None else asdict(database),
        "tables": len(unsettled),
    }
    yield f"{MARK}{_VERSION}, {json.dumps(head)[1:]}"
    for table, operations in unsettled.items():
        yield f'{{"table": {encode_declaration(table)}, "entries": {len(operations)}}}'
        for operation in operations:
            yield encode_operation(table, operation)


def _sync_folder(folder: Path) -> None:
    """Have the disk keep the file's name, where the system knows of such a thing."""
    with suppress(PermissionError):  # a folder that may be written to but not read
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def is_spill(path: Path) -> bool:
    """Tell whether a file begins as spills do, whole or not. One that cannot be read does not."""
    try:
        with path.open("rb") as file:
            return file.read(len(MARK)) == MARK.encode()
    except OSError:
        return False


def database_of(path: Path) -> Database | None:
    """Tell which database a spill is of, whole or not; None where the file does not say."""
    try:
        with path.open("rb") as file:
            database: Database | None = _head(file.readline(_LONGEST_HEAD).decode())["database"]
            return database
    except (OSError, ValueError):
        return None


def read_spill(path: str | os.PathLike[str], *, incomplete: bool = False) -> Spill:
    """Read a spill file.

    Args:
        path: the file.
        incomplete: whether one that was cut off will do: what it holds is its whole lines then.

    Returns:
        What it holds. Rows are plain tuples: the tables are declared anew, from the file.

    Raises:
        SpillError: it is no spill file, or is damaged; the message has the line.
        OSError: it cannot be read.
    """
    reader = _Reader()
    number = 1
    try:
        with Path(path).open("rb") as file:
            _check_start(file.peek())
            for number, line in enumerate(file, start=1):  # noqa: B007  # for the errors
                try:
                    reader.read(line.decode())
                except ValueError as error:
                    # The start of a JSON object is none, so this is no line that only lacks its
                    # line feed.
                    if line.endswith(b"\n"):
                        raise
                    if not incomplete:
                        raise ValueError(f"{error}; the file ends in this line. {_CUT}") from error
        return reader.result(incomplete=incomplete)
    except ValueError as error:
        raise SpillError(f"{os.fspath(path)!r}, line {number}: {error}") from error


def _check_start(start: bytes) -> None:
    """Refuse what is no spill before a line is read: it may have lines without end."""
    if start and not start.startswith(MARK.encode()):
        raise ValueError(_NO_SPILL)


class _Reader:
    """Takes the lines of a spill file, one after another."""

    def __init__(self) -> None:
        self._head: dict[str, Any] | None = None
        self._unsettled: dict[Table[Any], list[Operation]] = {}
        self._table: Table[Any] | None = None
        self._left = 0

    def read(self, line: str) -> None:
        if self._head is None:
            self._head = _head(line)
        elif self._table is not None and self._left:
            self._unsettled[self._table].append(decode_operation(self._table, line))
            self._left -= 1
        else:
            self._table, self._left = _table_line(line)
            self._unsettled[self._table] = []

    def result(self, *, incomplete: bool) -> Spill:
        head = self._head
        if head is None:
            raise ValueError(
                "it has no whole line, so there is no entry in it: its spill was never written to "
                "the end; look for a file of its name with .part after it"
            )
        if not incomplete and (self._left or len(self._unsettled) != head["tables"]):
            raise ValueError(f"the file ends here, but more is to follow: it is not whole. {_CUT}")
        return Spill(
            head["id"], head["written_at"], head["reason"], self._unsettled, head["database"]
        )


_CUT: Final = "Its whole lines can be taken in all the same (incomplete=True, --incomplete)"

_NO_SPILL: Final = "this is no spill file of forebay"

_HEAD: Final[Mapping[str, Callable[[Any], bool]]] = {
    "id": lambda value: isinstance(value, str),
    "written_at": lambda value: isinstance(value, int | float) and math.isfinite(value),
    "reason": lambda value: isinstance(value, str),
    "tables": lambda value: isinstance(value, int),
}
"""What the first line must have, and how each of it must be."""


def _head(line: str) -> dict[str, Any]:
    _check_start(line.encode())
    head = dict(parse_json(line))
    if head.pop("forebay_spill") != _VERSION:
        raise ValueError(f"the format is not {_VERSION}, the one this version of forebay reads")
    if missing := _HEAD.keys() - head.keys():
        raise ValueError(f"the first line has no {', '.join(sorted(missing))}")
    for name, fits in _HEAD.items():
        if not fits(head[name]):
            raise ValueError(f"{head[name]!r} is no {name} of a spill")
    head["database"] = _database(head)
    return head


def _database(head: Mapping[str, Any]) -> Database | None:
    match head.get("database"):
        case None:
            return None
        case {"path": str(path), "id": str() | None as known}:
            return Database(path, known)
        case other:
            raise ValueError(f"{other!r} is no database of a spill")


def _table_line(line: str) -> tuple[Table[Any], int]:
    value = parse_json(line)
    if not isinstance(value, dict) or set(value) != {"table", "entries"}:
        raise ValueError("expected a table here, with its number of entries")
    entries = value["entries"]
    if not isinstance(entries, int) or isinstance(entries, bool) or entries < 0:
        raise ValueError(f"{entries!r} is no number of entries")
    return decode_declaration(json.dumps(value["table"])), entries
