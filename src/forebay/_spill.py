"""Spill files: entries that were not settled when the program ended, in a file to replay.

Each line is one JSON value. The first line has the id of the spill and the database of its
entries. Then follows, per table, a line with the declaration and the number of entries, and a line
per entry. Executed in this order, the entries have the effect of the accepted ones:

    {"forebay_spill": 1, "id": "5f…", "written_at": 1760000000.0, "reason": "…",
     "database": {"path": "/srv/site.db", "id": "a1…"}, "tables": 1}
    {"table": {"name": "hits", …}, "entries": 2}
    {"write": {"url": "/", "count": 1}}
    {"delete": {"url": "/old"}}

The first line has no database, or null, if the store has no file or if an early version of forebay
wrote the spill. Such a spill may be replayed into any database.
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
"""The text at the start of every spill file."""

_VERSION: Final = 1

_MAX_FIRST_LINE: Final = 2**20
"""The maximum length of the first line in bytes. It contains the text of an error."""


@dataclass(frozen=True)
class Spill:
    """The contents of a spill file.

    Attributes:
        id: the unique id of the spill, which copies of the file share.
        written_at: when it was written, in seconds since 1970, UTC.
        reason: why its entries were not committed.
        unsettled: the entries by table. Executed in this order, they have the effect of the
            accepted ones.
        database: the database of the entries; None if the file does not name one.
    """

    id: str
    written_at: float
    reason: str
    unsettled: Mapping[Table[Any], Sequence[Operation]] = field(repr=False)
    database: Database | None = None

    @property
    def entries(self) -> int:
        """The number of entries."""
        return sum(map(len, self.unsettled.values()))


def write_spill(
    path: str | os.PathLike[str],
    unsettled: Mapping[Table[Any], Sequence[Operation]],
    *,
    reason: str = "",
    database: Database | None = None,
) -> Path:
    """Write entries to a new file, and return once they are on the disk.

    Only the file's owner can read it. The complete file appears, or none. An existing file is
    never changed: if the name is taken, ``.1`` is appended to it, or ``.2``, and so on.

    Args:
        path: the file.
        unsettled: the entries by table.
        reason: why they were not committed, for the person who finds the file.
        database: the database of the entries; None if it is unknown.

    Returns:
        The path of the file.

    Raises:
        OSError: the file cannot be written: no such folder, no permission, a full disk.
    """
    target, part = _reserve(Path(path))
    try:
        with part.open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in _lines(unsettled, reason, database))
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except BaseException:
        for created in (part, target):
            with suppress(OSError):
                created.unlink()
        raise
    _sync_folder(target.parent)
    return target


def _reserve(path: Path) -> tuple[Path, Path]:
    """Create two empty files: one that reserves a free name, and one to write to."""
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
        except FileExistsError:  # another spill, or one that was interrupted while it was written
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
    """Flush the folder to the disk, so that the new file's name survives a power failure."""
    with suppress(PermissionError):  # a folder that can be written but not read
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def is_spill(path: Path) -> bool:
    """Return whether a file begins like a spill file, which may be incomplete.

    Args:
        path: the file. If it cannot be read, the result is False.
    """
    try:
        with path.open("rb") as file:
            return file.read(len(MARK)) == MARK.encode()
    except OSError:
        return False


def read_database(path: Path) -> Database | None:
    """Return the database that the first line of a spill file names, or None.

    Args:
        path: the file, which may be incomplete. If its first line cannot be read, the result is
            None.
    """
    try:
        with path.open("rb") as file:
            first_line = _parse_first_line(file.readline(_MAX_FIRST_LINE).decode())
    except (OSError, ValueError):
        return None
    database: Database | None = first_line["database"]
    return database


def read_spill(path: str | os.PathLike[str], *, incomplete: bool = False) -> Spill:
    """Read a spill file.

    Args:
        path: the file.
        incomplete: whether to read a file whose end is missing; then the result has the entries
            of its complete lines.

    Returns:
        The contents. The tables are declared from the file, so their rows are plain tuples.

    Raises:
        SpillError: the file is damaged or not a spill file; the message contains the line.
        OSError: the file cannot be read.
    """
    reader = _Reader()
    number = 1
    try:
        with Path(path).open("rb") as file:
            _check_start(file.peek())
            for number, line in enumerate(file, start=1):  # noqa: B007  # for the error
                try:
                    reader.read(line.decode())
                except ValueError as error:
                    # A part of a JSON object is never valid JSON, so a last line without a line
                    # feed either parses or is incomplete.
                    if line.endswith(b"\n"):
                        raise
                    if not incomplete:
                        raise ValueError(
                            f"{error}; the file ends in this line. {_READ_PART}"
                        ) from error
        return reader.result(incomplete=incomplete)
    except ValueError as error:
        raise SpillError(f"{os.fspath(path)!r}, line {number}: {error}") from error


def _check_start(start: bytes) -> None:
    """Check the start of a file before its first line is read, which may be endless."""
    if start and not start.startswith(MARK.encode()):
        raise ValueError("not a spill file of forebay")


class _Reader:
    """Parse the lines of a spill file one after another."""

    def __init__(self) -> None:
        self._head: dict[str, Any] | None = None
        self._unsettled: dict[Table[Any], list[Operation]] = {}
        self._table: Table[Any] | None = None
        self._left = 0

    def read(self, line: str) -> None:
        if self._head is None:
            self._head = _parse_first_line(line)
        elif self._table is not None and self._left:
            self._unsettled[self._table].append(decode_operation(self._table, line))
            self._left -= 1
        else:
            self._table, self._left = _parse_table_line(line)
            self._unsettled[self._table] = []

    def result(self, *, incomplete: bool) -> Spill:
        head = self._head
        if head is None:
            raise ValueError(
                "the file has no complete line, so it contains no entry: the program stopped "
                "while it wrote the spill; look for a file with the same name and .part after it"
            )
        if not incomplete and (self._left or len(self._unsettled) != head["tables"]):
            raise ValueError(f"the file ends here, but entries are missing. {_READ_PART}")
        return Spill(
            head["id"], head["written_at"], head["reason"], self._unsettled, head["database"]
        )


_READ_PART: Final = "To read its complete lines, use incomplete=True or --incomplete"

_FIRST_LINE: Final[Mapping[str, Callable[[Any], bool]]] = {
    "id": lambda value: isinstance(value, str),
    "written_at": lambda value: isinstance(value, int | float) and math.isfinite(value),
    "reason": lambda value: isinstance(value, str),
    "tables": lambda value: isinstance(value, int),
}
"""The members that the first line must have, each with the check of its value."""


def _parse_first_line(line: str) -> dict[str, Any]:
    _check_start(line.encode())
    head = dict(parse_json(line))
    if head.pop("forebay_spill") != _VERSION:
        raise ValueError(f"unknown format; this version of forebay reads format {_VERSION} only")
    if missing := _FIRST_LINE.keys() - head.keys():
        raise ValueError(f"the first line has no {', '.join(sorted(missing))}")
    for name, is_valid in _FIRST_LINE.items():
        if not is_valid(head[name]):
            raise ValueError(f"invalid {name} in the first line: {head[name]!r}")
    head["database"] = _parse_database(head)
    return head


def _parse_database(head: Mapping[str, Any]) -> Database | None:
    match head.get("database"):
        case None:
            return None
        case {"path": str(path), "id": str() | None as known}:
            return Database(path, known)
        case other:
            raise ValueError(f"invalid database in the first line: {other!r}")


def _parse_table_line(line: str) -> tuple[Table[Any], int]:
    value = parse_json(line)
    if not isinstance(value, dict) or set(value) != {"table", "entries"}:
        raise ValueError("expected a line with a table and its number of entries")
    entries = value["entries"]
    if not isinstance(entries, int) or isinstance(entries, bool) or entries < 0:
        raise ValueError(f"invalid number of entries: {entries!r}")
    return decode_declaration(json.dumps(value["table"])), entries
