"""Spill files: what a drain could not write in time, in a file that can be replayed.

One JSON value a line. The first line names the spill; then, table by table, a line with the
declaration and the number of entries, and a line for each entry in the order of acceptance:

    {"forebay_spill": 1, "id": "5f…", "written_at": 1760000000.0, "reason": "…", "tables": 1}
    {"table": {"name": "hits", …}, "entries": 2}
    {"write": {"url": "/", "count": 1}}
    {"delete": {"url": "/old"}}
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from forebay._errors import SpillError
from forebay._letters import (
    decode_declaration,
    decode_operation,
    encode_declaration,
    encode_operation,
)
from forebay._operations import Operation
from forebay._table import Table

MARK: Final = '{"forebay_spill": '
"""How every spill file begins."""

_VERSION: Final = 1


@dataclass(frozen=True)
class Spill:
    """What a spill file holds.

    Attributes:
        id: names this spill, no two the same, however often the file is copied.
        written_at: when it was written, in seconds since 1970, UTC.
        reason: why its entries did not reach the database.
        unsettled: the entries by their tables, in the order of acceptance.
    """

    id: str
    written_at: float
    reason: str
    unsettled: Mapping[Table[Any], Sequence[Operation]] = field(repr=False)


def write_spill(
    path: str | os.PathLike[str],
    unsettled: Mapping[Table[Any], Sequence[Operation]],
    *,
    reason: str = "",
) -> Path:
    """Write entries to a new file, for its owner only; return once they are on the disk.

    The file appears whole or not at all. A file that is there is never written to: where the
    name is taken, ``.1`` is appended to it, or ``.2``, and so on.

    Args:
        path: the file.
        unsettled: the entries by their tables.
        reason: why they did not reach the database, for the person who finds the file.

    Returns:
        The file that was written.

    Raises:
        OSError: it could not be written: no such folder, no permission, a full disk.
    """
    target, part = _reserve(Path(path))
    try:
        with part.open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in _lines(unsettled, reason))
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


def _lines(unsettled: Mapping[Table[Any], Sequence[Operation]], reason: str) -> Iterator[str]:
    head = {
        "id": uuid4().hex,
        "written_at": time.time(),
        "reason": reason,
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


def read_spill(path: str | os.PathLike[str]) -> Spill:
    """Read a spill file.

    Args:
        path: the file.

    Returns:
        What it holds. Rows are plain tuples: the tables are declared anew, from the file.

    Raises:
        SpillError: it is no spill file, or is damaged; the message has the line.
        OSError: it cannot be read.
    """
    reader = _Reader()
    number = 0
    try:
        with Path(path).open("rb") as file:
            for number, line in enumerate(file, start=1):  # noqa: B007  # for the errors
                reader.read(line.decode())
        return reader.result()
    except ValueError as error:
        raise SpillError(f"{os.fspath(path)!r}, line {number}: {error}") from error


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

    def result(self) -> Spill:
        head = self._head
        if head is None:
            raise ValueError("the file is empty: its spill was never written to the end")
        if self._left or len(self._unsettled) != head["tables"]:
            raise ValueError("the file ends here, but more is to follow: it is not whole")
        return Spill(head["id"], head["written_at"], head["reason"], self._unsettled)


def _head(line: str) -> dict[str, Any]:
    if not line.startswith(MARK):
        raise ValueError("this is no spill file of forebay")
    head = dict(json.loads(line))
    if head.pop("forebay_spill") != _VERSION:
        raise ValueError(f"the format is not {_VERSION}, the one this version of forebay reads")
    if missing := {"id", "written_at", "reason", "tables"} - set(head):
        raise ValueError(f"the first line has no {', '.join(sorted(missing))}")
    return head


def _table_line(line: str) -> tuple[Table[Any], int]:
    value = json.loads(line)
    if not isinstance(value, dict) or set(value) != {"table", "entries"}:
        raise ValueError("expected a table here, with its number of entries")
    entries = value["entries"]
    if not isinstance(entries, int) or entries < 0:
        raise ValueError(f"{entries!r} is no number of entries")
    return decode_declaration(json.dumps(value["table"])), entries
