"""Read a spill file, and refuse one that is damaged, incomplete or not trusted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from forebay._database import Database
from forebay._errors import SpillError
from forebay._format import check_format
from forebay._own_files import open_trusted, trusted_owners
from forebay._spill.model import MARK, PART, Spill
from forebay._table.json_format import decode_declaration, decode_operation, parse_json
from forebay._table.operations import Operation
from forebay._table.table import Table

_MAX_FIRST_LINE: Final = 2**20
"""The maximum length of the first line in bytes. It contains the text of an error."""


def is_spill(path: Path) -> bool:
    """Return whether a file begins like a spill file, which may be incomplete.

    Args:
        path: a regular file, or a symbolic link to one. If it cannot be read, the result is False.
    """
    try:
        with path.open("rb") as file:
            return file.read(len(MARK)) == MARK.encode()
    except OSError:
        return False


def read_database(path: Path, *, owners: Collection[int] = ()) -> Database | None:
    """Return the database that the first line of a spill file names, or None.

    Args:
        path: the file, which may be incomplete. If its first line cannot be read, the result is
            None.
        owners: as for `read_spill`.
    """
    try:
        with _open(path, owners) as file:
            first_line = _parse_first_line(file.readline(_MAX_FIRST_LINE).decode())
    except (OSError, SpillError, ValueError):
        return None
    database: Database | None = first_line["database"]
    return database


def read_spill(
    path: str | os.PathLike[str], *, incomplete: bool = False, owners: Collection[int] = ()
) -> Spill:
    """Read a spill file.

    Args:
        path: the file.
        incomplete: whether to read a file whose end is missing; then the result has the entries
            of its complete lines.
        owners: the ids of the users whose file this may be, beside this user and the superuser.

    Returns:
        The contents. The tables are declared from the file, so their rows are plain tuples.

    Raises:
        SpillError: the file is damaged, has a newer format or is not a spill file, and the message
            contains the line; or the path is a symbolic link or is not that of a regular file; or
            another user owns the file.
        OSError: the file cannot be read.
    """
    reader = _Reader()
    number = 1
    with _open(path, owners) as file:
        try:
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


def _open(path: str | os.PathLike[str], owners: Collection[int]) -> BinaryIO:
    """Open a spill file, and check its start before a line is read, which may be endless."""
    try:
        file = open_trusted(path, trusted_owners() | frozenset(owners))
    except ValueError as problem:
        raise SpillError(
            f"{os.fspath(path)!r} {problem}: if you trust its contents, copy them to a file of "
            f"this user, and pass the path of that file"
        ) from None
    start = file.read(len(MARK))
    if not MARK.encode().startswith(start):
        file.close()
        raise SpillError(f"{os.fspath(path)!r}, line 1: not a spill file of forebay")
    file.seek(0)
    return file


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
                f"the file has no complete line, so it contains no entry: the program stopped "
                f"while it wrote the spill; look for a file with the same name and {PART} after it"
            )
        if not incomplete and (self._left or len(self._unsettled) != head["tables"]):
            raise ValueError(f"the file ends here, but entries are missing. {_READ_PART}")
        return Spill(
            head["id"], head["written_at"], head["reason"], self._unsettled, head["database"]
        )


_READ_PART: Final = "To read its complete lines, use incomplete=True or --incomplete"

_MAX_TIME: Final = 1e12
"""The limit of a time in seconds, some thirty thousand years, so that it is not infinite."""

_FIRST_LINE: Final[Mapping[str, Callable[[Any], bool]]] = {
    "id": lambda value: isinstance(value, str),
    "written_at": lambda value: type(value) in (int, float) and abs(value) < _MAX_TIME,
    "reason": lambda value: isinstance(value, str),
    "tables": lambda value: type(value) is int,
}
"""The members that the first line must have, each with the check of its value."""


def _parse_first_line(line: str) -> dict[str, Any]:
    head = dict(parse_json(line))
    check_format(head.pop("forebay_spill"))
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
