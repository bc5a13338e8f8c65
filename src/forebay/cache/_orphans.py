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

from forebay import SqliteStore
from forebay.cache.files import FOLDERS, ArtifactFiles

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


async def remove_orphans(store: SqliteStore, files: ArtifactFiles) -> None:
    """Remove the files that no row tells of, since nothing would ever evict them.

    To be called before anybody adds files. It reads all keys and lists all files, in batches,
    each in a thread. Names that are no artifact's are left alone; a file that cannot be removed
    is left with a warning. Cancelled, it ends after the batch in hand.

    Raises:
        OSError: a folder cannot be read.
    """
    threads = anyio.CapacityLimiter(1)
    known = _Known()
    for query in _KEYS:
        last = ""
        while rows := await store.fetch_all(query, (last, _BATCH)):
            keys = [key for (key,) in rows]
            await anyio.to_thread.run_sync(known.add, keys, limiter=threads)
            last = keys[-1]
    removed = size = 0
    for number, folder in enumerate(files.folders()):
        sizes = await anyio.to_thread.run_sync(
            _remove_others, folder, known.beginnings(number), limiter=threads
        )
        removed += len(sizes)
        size += sum(sizes)
    if removed:
        _log.warning("removed %d files of %d bytes that no row told of", removed, size)


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
