"""`CacheArtifacts`: what is known of each artifact, for eviction."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice

import trio

from forebay import Buffer, RowError, SqliteStore
from forebay.cache._check import checked_limit, checked_row, checked_text, checked_texts
from forebay.cache._gate import Gate
from forebay.cache.files import ArtifactFiles, Removal
from forebay.cache.tables import CasArtifact, Clock, S3Transfer

_log = logging.getLogger("forebay.cache")

BATCH = 500
"""How many keys one statement, or one call of a thread, is given. Below SQLite's lowest limit of
parameters in use, 999."""

_BEGINNING = (-(2**63), "")
"""Before every access."""

_UPLOAD_QUEUED = (
    "EXISTS (SELECT 1 FROM s3_transfers AS t WHERE t.type = 'upload' AND t.key = cas_artifacts.key)"
)

_WHICH = {None: "TRUE", True: _UPLOAD_QUEUED, False: f"NOT {_UPLOAD_QUEUED}"}


class CacheArtifacts:
    """The table `cas_artifacts`, and the files it tells of.

    Keys are the server's own. `delete_project` takes those of a project to begin with
    ``account/project/``.

    What reads, flushes before, so that it sees each access and each deletion that was accepted.
    A flush lasts while the disk is full or the file locked; where that may not be waited for,
    `patience` bounds it, and then what counts is what the table has.

    Once the cache is closed, all methods raise `trio.ClosedResourceError`; once the buffer's
    worker has failed, `trio.BrokenResourceError`.
    """

    def __init__(
        self,
        store: SqliteStore,
        buffer: Buffer[CasArtifact],
        queue: Buffer[S3Transfer],
        files: ArtifactFiles,
        *,
        clock: Clock,
        gate: Gate,
    ) -> None:
        self._store = store
        self._buffer = buffer
        self._queue = queue
        self._files = files
        self._clock = clock
        self._gate = gate

    async def track_access(self, key: str) -> None:
        """Note that an artifact was used, now, and how large its file is.

        Waits while the buffer is full. Cancelled, it has noted nothing.

        Args:
            key: the artifact's key.

        Raises:
            TypeError: the key is no text.
            ValueError: it is empty, or not to be expressed in UTF-8.
        """
        self._gate.check()
        await self._track(checked_text("key", key))

    async def _track(self, key: str) -> None:
        await self._buffer.enqueue(await self._accessed(key))

    async def _accessed(self, key: str) -> CasArtifact:
        size = await self._files.size(key)
        now = self._clock()
        return CasArtifact(key, size, now, now, now)

    async def track_stored(self, key: str) -> None:
        """Note an access as `track_access` does, and return once it is in the file.

        Tasks that do so at the same time share a transaction. An access that the table refuses
        is in the dead letters.

        Args:
            key: as for `track_access`.

        Raises:
            TypeError: as for `track_access`.
            ValueError: as for `track_access`.
        """
        self._gate.check()
        with suppress(RowError):
            await self._buffer.write(await self._accessed(checked_text("key", key)))

    async def oldest(
        self,
        limit: int = BATCH,
        *,
        after: CasArtifact | None = None,
        upload_queued: bool | None = None,
        patience: float = math.inf,
    ) -> list[CasArtifact]:
        """Give the artifacts that were used least recently, in the order of their last access.

        Artifacts of one time are in the order of their keys. Cancelled, it has changed nothing.

        Args:
            limit: how many at the most.
            after: the last one of a batch before, to go on from there.
            upload_queued: only those whose upload is queued, or, if False, is not; None for all.
            patience: how long to wait for the flush, in seconds.

        Raises:
            TypeError: `limit` is no whole number, or `after` no artifact.
            ValueError: `limit` is less than 1, or past 63 bits.
        """
        self._gate.check()
        checked_limit("limit", limit)
        checked_row("after", after, CasArtifact)
        await self._flush(patience)
        start = _BEGINNING if after is None else (after.last_accessed_at, after.key)
        rows = await self._store.fetch_all(
            "SELECT key, size_bytes, last_accessed_at, inserted_at, updated_at "  # noqa: S608  # no values
            "FROM cas_artifacts WHERE (last_accessed_at, key) > (?, ?) "
            f"AND {_WHICH[upload_queued]} ORDER BY last_accessed_at, key LIMIT ?",
            (*start, limit),
        )
        return [CasArtifact(*row) for row in rows]

    async def _flush(self, patience: float) -> None:
        with trio.move_on_after(patience):
            await self._buffer.flush()
            await self._queue.flush()

    async def existing_keys(self, keys: Iterable[str]) -> set[str]:
        """Tell which of these keys are in the table. Cancelled, it has changed nothing.

        Args:
            keys: any number of them.

        Raises:
            TypeError: one is no text, or `keys` is a single text.
            ValueError: one is empty, or not to be expressed in UTF-8.
        """
        self._gate.check()
        wanted = dict.fromkeys(checked_texts("keys", keys))
        await self._buffer.flush()
        found: set[str] = set()
        for some in _batches(wanted):
            rows = await self._store.fetch_all(
                f"SELECT key FROM cas_artifacts WHERE key IN ({', '.join('?' * len(some))})",  # noqa: S608  # only question marks
                some,
            )
            found.update(key for (key,) in rows)
        return found

    async def total_bytes(self, *, patience: float = math.inf) -> int:
        """Tell how many bytes all artifacts together have.

        Reads every row, so it takes the longer the more there are. Cancelled, it has changed
        nothing.

        Args:
            patience: how long to wait for the flush, in seconds.
        """
        self._gate.check()
        await self._flush(patience)
        row = await self._store.fetch_one("SELECT SUM(size_bytes) FROM cas_artifacts")
        return 0 if row is None or row[0] is None else int(row[0])

    async def delete(self, keys: Iterable[str], *, patience: float = math.inf) -> Removal:
        """Delete artifacts: the files first, then the rows.

        A file that is gone already counts as removed. One that cannot be removed is skipped with
        a warning in the log, and keeps its row, so that it is not forgotten on the disk.

        Cancelled, it may have removed files of which the rows are still there; to delete them
        again is right.

        Args:
            keys: the artifacts' keys; those that are not there are no error.
            patience: how long 500 of them may wait for room in the buffer, in seconds. The rows
                for which there was none stay; to delete them again is right.

        Returns:
            What became of the files.

        Raises:
            TypeError: one is no text, or `keys` is a single text.
            ValueError: one is empty, or not to be expressed in UTF-8.
        """
        self._gate.check()
        whole = Removal({}, {})
        for some in _batches(checked_texts("keys", keys)):
            removal = await self._delete(some, patience)
            whole.freed.update(removal.freed)
            whole.failed.update(removal.failed)
        return whole

    async def _delete(self, keys: Sequence[str], patience: float = math.inf) -> Removal:
        removal = await self._files.remove(keys)
        for key, error in removal.failed.items():
            _log.warning("artifact %r cannot be removed, and is skipped: %s", key, error)
        with trio.move_on_after(patience):
            await self._forget(tuple(removal.freed))
        return removal

    async def _forget(self, removed: Sequence[str]) -> None:
        for key in removed:
            await self._buffer.enqueue_delete(key)
        # A file that was written again meanwhile, and tracked before its row was deleted, would
        # have no row: nobody would ever evict it.
        for key, size in zip(removed, await self._files.sizes(removed), strict=True):
            if size is not None:
                await self._track(key)

    async def delete_project(self, account: str, project: str) -> int:
        """Delete the artifacts of a project, as `delete` does: all whose key begins with it.

        Args:
            account: the account's handle.
            project: the project's handle.

        Returns:
            How many artifacts were deleted.

        Raises:
            TypeError: a handle is no text.
            ValueError: a handle is empty, has a slash, or cannot be expressed in UTF-8.
        """
        self._gate.check()
        for argument, handle in (("account", account), ("project", project)):
            if "/" in checked_text(argument, handle):
                raise ValueError(f"{argument} {handle!r} has a slash, which ends a handle in a key")
        prefix = f"{account}/{project}"
        await self._buffer.flush()
        last = f"{prefix}/"
        deleted = 0
        # Not LIKE or GLOB: to these, characters of the handle mean something, and NUL the end.
        # "0" is the character after "/".
        while rows := await self._store.fetch_all(
            "SELECT key FROM cas_artifacts WHERE key >= ? AND key < ? ORDER BY key LIMIT ?",
            (last, f"{prefix}0", BATCH),
        ):
            keys = [key for (key,) in rows]
            deleted += len((await self._delete(keys)).freed)
            last = f"{keys[-1]}\0"
        return deleted


def _batches(keys: Iterable[str]) -> Iterator[tuple[str, ...]]:
    left = iter(keys)
    while some := tuple(islice(left, BATCH)):
        yield some
