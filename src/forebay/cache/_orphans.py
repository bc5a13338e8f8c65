"""Files that no row tells of: what a crash between a file and its row leaves on the disk."""

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
from forebay.cache._check import checked_text
from forebay.cache.files import FOLDERS, ArtifactFiles
from forebay.cache.tables import CAS_ARTIFACTS, S3_TRANSFERS

_log = logging.getLogger("forebay.cache")

_BATCH = 5_000
"""How many keys are read, and hashed in a thread, at a time."""

_NAME = re.compile(r"[0-9a-f]{64}")

_KEYS = (
    "SELECT key FROM cas_artifacts WHERE key > ? ORDER BY key LIMIT ?",
    "SELECT key FROM s3_transfers WHERE type = 'upload' AND key > ? ORDER BY key LIMIT ?",
)
"""The keys whose files are wanted: an upload needs its file though nobody has used it yet."""


class _Known:
    """The names of the files that are wanted, as the first 64 bits of each.

    So a million of them take 8 MB. Of two names that begin alike, one that is not wanted stays:
    with a million names, one chance in ten million.
    """

    def __init__(self) -> None:
        self._folders = [array("Q") for _ in range(FOLDERS)]

    def add(self, keys: Iterable[str]) -> None:
        for key in keys:
            digest = hashlib.sha256(key.encode()).digest()
            self._folders[digest[0]].append(int.from_bytes(digest[:8], "big"))

    def beginnings(self, folder: int) -> set[str]:
        return {f"{bits:016x}" for bits in self._folders[folder]}


async def remove_orphans(store: SqliteStore, files: ArtifactFiles, spill: Path) -> None:
    """Remove the files that no row tells of, since nothing would ever evict them.

    To be called before anybody adds files. It reads all keys and lists all files, in batches,
    each in a thread. Names that are no artifact's are left alone; a file that cannot be removed
    is left with a warning. Where rows may be elsewhere than in the tables, or cannot be read,
    all files stay, with a warning. Cancelled, it ends after the batch in hand.

    Args:
        store: the file.
        files: the artifacts' files.
        spill: where what a drain could not write is put; others are beside it, numbered.

    Raises:
        OSError: a folder cannot be read.
    """
    threads = anyio.CapacityLimiter(1)
    spills = await anyio.to_thread.run_sync(_beside, spill, limiter=threads)
    if spills:
        _stay(
            f"their rows may be in {', '.join(spills)}: bring back the entries by "
            f"`forebay dead-letters replay --spill`, and move these files out of the folder"
        )
        return
    try:
        letters = await _dead_letters(store)
        known = await _known(store, threads)
    except Exception as error:  # noqa: BLE001  # whatever it is: a file is not removed on a guess
        _stay(f"the keys cannot be read: {error!r}")
        return
    if letters:
        _stay(
            f"their rows may be among the {letters} dead letters of cas_artifacts and "
            f"s3_transfers: see to these by `forebay dead-letters list`, `replay` and `purge`"
        )
        return
    removed = size = 0
    for number, folder in enumerate(files.folders()):
        sizes = await anyio.to_thread.run_sync(
            _remove_others, folder, known.beginnings(number), limiter=threads
        )
        removed += len(sizes)
        size += sum(sizes)
    if removed:
        _log.warning("removed %d files of %d bytes that no row told of", removed, size)


def _stay(why: str) -> None:
    _log.warning("files that no row tells of stay, since %s", why)


def _beside(spill: Path) -> list[str]:
    return sorted(str(path) for path in spill.parent.glob(f"{spill.name}*"))


async def _dead_letters(store: SqliteStore) -> int:
    tables = {CAS_ARTIFACTS.name, S3_TRANSFERS.name}
    return sum(each.count for each in await dead_letters.counts(store) if each.buffer in tables)


async def _known(store: SqliteStore, threads: anyio.CapacityLimiter) -> _Known:
    known = _Known()
    for query in _KEYS:
        last = ""
        while rows := await store.fetch_all(query, (last, _BATCH)):
            keys = [checked_text("key", key) for (key,) in rows]
            await anyio.to_thread.run_sync(known.add, keys, limiter=threads)
            last = keys[-1]
    return known


def _remove_others(folder: Path, known: set[str]) -> list[int]:
    """Remove the files of a folder whose names do not begin as a known one; give their sizes."""
    sizes: list[int] = []
    for name in os.listdir(folder) if folder.is_dir() else ():  # noqa: PTH208  # no Path a name
        if name[:16] in known or not _NAME.fullmatch(name):
            continue
        path = folder / name
        try:
            size = path.stat().st_size
            path.unlink()
        except OSError as error:
            _log.warning("%r, of which no row tells, cannot be removed: %s", str(path), error)
        else:
            sizes.append(size)
    return sizes
