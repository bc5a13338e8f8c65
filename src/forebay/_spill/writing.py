"""Write a spill file: complete or not at all, and never over or through another file."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import IO, Any, Final
from uuid import uuid4

from forebay._database import Database
from forebay._errors import OptionsError
from forebay._format import FORMAT
from forebay._own_files import (
    create_file,
    file_problem,
    is_same_file,
    opened_folder,
    sync_file,
    sync_folder,
    trusted_owners,
)
from forebay._spill.model import MARK, PART
from forebay._table.json_format import encode_declaration, encode_operation
from forebay._table.operations import Operation
from forebay._table.table import Table

_EXPECTED: Final = "expected a file in an existing folder that this process may write to"

_LONGEST_SUFFIX: Final = f".9999{PART}"
"""What is appended to the name of a spill file, if earlier ones have the shorter suffixes."""


def check_spill_path(path: str | os.PathLike[str]) -> Path:
    """Check, before there is something to spill, that a spill file can be created at a path.

    Args:
        path: the path, which may be relative to the current folder.

    Returns:
        The absolute path.

    Raises:
        TypeError: `path` is not a path.
        OptionsError: no file can have this path, its folder does not exist or cannot be written,
            or the path exists and is a symbolic link, is not a regular file, or belongs to
            another user.
    """
    try:
        name = os.fsdecode(path)
    except TypeError:
        raise TypeError(f"spill must be the path of a file, not {path!r}") from None
    absolute = name
    try:
        absolute = os.path.join(os.getcwd(), name)  # noqa: PTH109, PTH118  # keeps a last slash
        problem = _path_problem(absolute if name else "")
    except OSError as error:
        problem = f"{error.strerror}: {error.filename!r}"
    except ValueError as error:  # a NUL, or a surrogate that stands for no byte
        problem = str(error)
    if problem is not None:
        raise OptionsError(f"spill = {name!r}: {problem}; {_EXPECTED}")
    return Path(absolute)


def _path_problem(path: str) -> str | None:
    folder, name = os.path.split(path)
    if name in ("", os.curdir, os.pardir):
        return "this names a folder" if path else "the path is empty"
    with opened_folder(folder) as descriptor:
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=_EFFECTIVE):
            return f"this process may not write to the folder {folder!r}"
        # An error tells that the name is too long.
        _status(f"{name}{_LONGEST_SUFFIX}", folder=descriptor)
        status = _status(name, folder=descriptor)
    if status is None:
        return None
    problem = file_problem(status, trusted_owners())
    return None if problem is None else f"the path {problem}"


_EFFECTIVE: Final = os.access in os.supports_effective_ids


def _status(name: str, *, folder: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def write_spill(
    path: str | os.PathLike[str],
    unsettled: Mapping[Table[Any], Sequence[Operation]],
    *,
    reason: str = "",
    database: Database | None = None,
    on_doubt: Callable[[str], object] = lambda _doubt: None,
) -> Path:
    """Write entries to a new file, and return once they are on the disk.

    Only the file's owner can read it. The complete file appears, or none. An existing file is
    never changed: if the name is taken, ``.1`` is appended to it, or ``.2``, and so on.

    Args:
        path: the file.
        unsettled: the entries by table.
        reason: why they were not committed, for the person who finds the file.
        database: the database of the entries; None if it is unknown.
        on_doubt: called with the reason if the file may not survive a power failure.

    Returns:
        The path of the file.

    Raises:
        OSError: the file cannot be written: no such folder, no permission, a full disk.
    """
    path = Path(path)
    with opened_folder(path.parent) as folder:
        new = _reserve(path.name, folder)
        with new.file as file:
            try:
                file.writelines(_lines(unsettled, reason, database))
                file.flush()
                doubt = sync_file(file.fileno())
                os.replace(new.part, new.name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                new.remove(folder=folder)
                raise
            if not is_same_file(new.name, os.fstat(file.fileno()), folder=folder):
                raise OSError(errno.EPERM, "another program replaced the file", new.name)
        doubt = doubt or sync_folder(folder)
    if doubt is not None:
        on_doubt(doubt)
    return path.with_name(new.name)


@dataclass(frozen=True)
class _Reserved:
    """A free name that a new empty file occupies, and the new file to write to.

    Attributes:
        name: the name.
        part: the name of the file to write to, which then replaces the empty one.
        file: the file to write to.
        identities: the status of both files, by name.
    """

    name: str
    part: str
    file: IO[str]
    identities: Mapping[str, os.stat_result]

    def remove(self, *, folder: int) -> None:
        """Remove both files, or the one that they have become."""
        written = self.identities[self.part]
        for name, identity in (*self.identities.items(), (self.name, written)):
            if is_same_file(name, identity, folder=folder):
                with suppress(OSError):
                    os.unlink(name, dir_fd=folder)


def _reserve(first: str, folder: int) -> _Reserved:
    numbers = count(1)
    name = first
    while True:
        part = f"{name}{PART}"
        try:
            empty = _create(name, folder)
            try:
                descriptor = create_file(part, folder=folder)
            except BaseException:
                os.unlink(name, dir_fd=folder)
                raise
        except FileExistsError:  # another spill, or one that was interrupted while it was written
            name = f"{first}.{next(numbers)}"
        else:
            file = os.fdopen(descriptor, "w", encoding="utf-8")
            return _Reserved(name, part, file, {name: empty, part: os.fstat(descriptor)})


def _create(name: str, folder: int) -> os.stat_result:
    descriptor = create_file(name, folder=folder)
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


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
    yield f"{MARK}{FORMAT}, {json.dumps(head)[1:]}\n"
    for table, operations in unsettled.items():
        yield f'{{"table": {encode_declaration(table)}, "entries": {len(operations)}}}\n'
        for operation in operations:
            yield f"{encode_operation(table, operation)}\n"
