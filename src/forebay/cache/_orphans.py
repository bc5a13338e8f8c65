"""Removal of orphans: artifact files without a row, which a crash leaves on the disk."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from array import array
from collections.abc import Iterable
from pathlib import Path

import anyio
import anyio.to_thread

from forebay import SqliteStore, dead_letters
from forebay.cache._arguments import checked_text
from forebay.cache.files import FOLDERS, ArtifactFiles
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
        self._folders = [array("Q") for _ in range(FOLDERS)]

    def add(self, keys: Iterable[str]) -> None:
        for key in keys:
            digest = hashlib.sha256(key.encode()).digest()
            self._folders[digest[0]].append(int.from_bytes(digest[:8], "big"))

    def prefixes(self, folder: int) -> set[str]:
        return {f"{bits:016x}" for bits in self._folders[folder]}


async def remove_orphans(store: SqliteStore, files: ArtifactFiles, spill: Path) -> None:
    """Remove the artifact files without a row, since nothing would ever evict them.

    This must be called before any file is added. It reads all keys and lists all files, in
    batches, in threads. Files with other names are left alone. A file that cannot be removed is
    logged as a warning. If rows may be outside the tables, or the keys cannot be read, all files
    stay and a warning is logged. Cancelled, it ends after the batch in progress.

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
    for number, folder in enumerate(files.folders()):
        sizes = await anyio.to_thread.run_sync(
            _remove_others, folder, kept.prefixes(number), limiter=threads
        )
        removed += len(sizes)
        size += sum(sizes)
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


def _remove_others(folder: Path, prefixes: set[str]) -> list[int]:
    """Remove the artifact files of a folder whose names have none of the prefixes.

    Returns:
        The sizes of the removed files, in bytes.
    """
    sizes: list[int] = []
    for name in os.listdir(folder) if folder.is_dir() else ():  # noqa: PTH208  # saves a Path per file
        if name[:16] in prefixes or not _NAME.fullmatch(name):
            continue
        path = folder / name
        try:
            size = path.stat().st_size
            path.unlink()
        except OSError as error:
            _log.warning("file %r without a row cannot be removed: %s", str(path), error)
        else:
            sizes.append(size)
    return sizes
