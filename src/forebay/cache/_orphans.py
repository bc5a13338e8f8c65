"""Removal of orphans: artifact files without a row, which a crash leaves on the disk."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from array import array
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread

from forebay import SqliteStore, dead_letters
from forebay.cache._arguments import checked_text
from forebay.cache._folder import remove_file
from forebay.cache.files import SUBFOLDERS, ArtifactFiles
from forebay.cache.tables import CAS_ARTIFACTS, S3_TRANSFERS

_log = logging.getLogger("forebay.cache")

_BATCH = 5_000
"""How many keys are read at a time, and then hashed in a thread."""

_NAME = re.compile(r"[0-9a-f]{64}")

_KEYS = (
    "SELECT key FROM cas_artifacts WHERE key > ? ORDER BY key LIMIT ?",
    "SELECT key FROM s3_transfers WHERE type = 'upload' AND key > ? ORDER BY key LIMIT ?",
)
"""The keys whose files are kept. An upload needs its file even if the file was never tracked."""


class _Kept:
    """The names of the files to keep, as the first 64 bits of each.

    A million names take 8 MB. A file whose name begins like one to keep is kept as well: with a
    million names, the probability of that is one in ten million.
    """

    def __init__(self) -> None:
        self._subfolders = [array("Q") for _ in range(SUBFOLDERS)]

    def add(self, keys: Iterable[str]) -> None:
        for key in keys:
            digest = hashlib.sha256(key.encode()).digest()
            self._subfolders[digest[0]].append(int.from_bytes(digest[:8], "big"))

    def prefixes(self, subfolder: int) -> set[str]:
        return {f"{bits:016x}" for bits in self._subfolders[subfolder]}


async def remove_orphans(store: SqliteStore, files: ArtifactFiles, spill: Path) -> None:
    """Remove the artifact files without a row, since nothing would ever evict them.

    This must be called before any file is added. It reads all keys and lists all files, in
    batches, in threads. Symbolic links with the name of an artifact file are removed too; files
    with other names are left alone. A file that cannot be removed is logged as a warning. If rows
    may be outside the tables, or the keys cannot be read, all files stay and a warning is logged.
    Cancelled, it ends after the batch in progress.

    Args:
        store: the database.
        files: the artifacts' files.
        spill: the path of the spill. Further spills have the same path with a suffix.

    Raises:
        OSError: a folder cannot be read.
    """
    threads = anyio.CapacityLimiter(1)
    spills = await anyio.to_thread.run_sync(_spills, spill, limiter=threads)
    if spills:
        _warn_kept(
            f"their rows may be in {', '.join(spills)}: replay the entries with "
            f"`forebay dead-letters replay --spill`, and move these files out of the folder"
        )
        return
    try:
        letters = await _dead_letters(store)
        kept = await _kept(store, threads)
    except Exception as error:  # noqa: BLE001  # after any error, a removal would be a guess
        _warn_kept(f"the keys cannot be read: {error!r}")
        return
    if letters:
        _warn_kept(
            f"their rows may be among the {letters} dead letters of cas_artifacts and "
            f"s3_transfers: handle these with `forebay dead-letters list`, `replay` and `purge`"
        )
        return
    removed = size = 0
    # A small cache has few subfolders, and each one takes a call of a thread.
    for number in await anyio.to_thread.run_sync(files.subfolders, limiter=threads):
        freed = await anyio.to_thread.run_sync(
            _remove_from, files, number, kept.prefixes(number), limiter=threads
        )
        removed += len(freed)
        size += sum(freed)
    if removed:
        _log.warning("removed %d files without a row, of %d bytes", removed, size)


def _warn_kept(reason: str) -> None:
    _log.warning("files without a row are not removed, since %s", reason)


def _spills(spill: Path) -> list[str]:
    return sorted(str(path) for path in spill.parent.glob(f"{spill.name}*"))


async def _dead_letters(store: SqliteStore) -> int:
    tables = {CAS_ARTIFACTS.name, S3_TRANSFERS.name}
    return sum(each.count for each in await dead_letters.counts(store) if each.buffer in tables)


async def _kept(store: SqliteStore, threads: anyio.CapacityLimiter) -> _Kept:
    kept = _Kept()
    for query in _KEYS:
        last = ""
        while rows := await store.fetch_all(query, (last, _BATCH)):
            keys = [checked_text("key", key) for (key,) in rows]
            await anyio.to_thread.run_sync(kept.add, keys, limiter=threads)
            last = keys[-1]
    return kept


def _remove_from(files: ArtifactFiles, subfolder: int, kept: set[str]) -> list[int]:
    """Remove the orphans and symbolic links of one subfolder.

    Args:
        files: the artifacts' files.
        subfolder: the number of the subfolder.
        kept: the prefixes of the names of the files to keep.

    Returns:
        The bytes that each removed file freed.
    """
    freed: list[int] = []
    with (
        suppress(FileNotFoundError),
        files.opened_subfolder(subfolder) as (folder, path),
        os.scandir(folder) as entries,
    ):
        for entry in list(entries):
            kept_file = entry.name[:16] in kept and not entry.is_symlink()
            if kept_file or not _NAME.fullmatch(entry.name):
                continue
            try:
                freed.append(remove_file(entry.name, folder=folder))
            except OSError as error:
                file = str(path / entry.name)
                _log.warning("file %r without a row cannot be removed: %s", file, error)
    return freed
