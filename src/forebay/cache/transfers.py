"""`S3Transfers`: the queue of artifacts to copy to and from the object storage."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import trio
from uuid_utils import uuid7

from forebay import Buffer, SqliteStore
from forebay.cache._arguments import (
    check_handles,
    check_row,
    check_timeout,
    checked_limit,
    checked_text,
    checked_texts,
    checked_utf8,
)
from forebay.cache._call_batcher import CallBatcher
from forebay.cache._outbox import InsertionTimes
from forebay.cache._pending_deletions import PendingDeletions
from forebay.cache._workers import CloseGuard
from forebay.cache.tables import CasArtifact, Clock, Executes, S3Transfer, TransferType

_COLUMNS = (
    "id, type, account_handle, project_handle, artifact_type, key, inserted_at, attempts, "
    "next_attempt_at, sha256"
)

_FLUSH_TIMEOUT = 1.0
"""How long a read waits for a flush, in seconds."""

_BATCH = 500
"""How many transfers of a project are deleted at a time."""

_START = (-(2**63), "")
"""A position before every transfer."""


class _Failure(NamedTuple):
    """The new values of a row after a failed attempt."""

    attempts: int
    next_attempt_at: int
    id: str


async def pending_deletions(store: SqliteStore) -> PendingDeletions:
    """Return the deletions of projects that are in the table."""
    rows = await store.fetch_all(
        "SELECT id, key FROM s3_transfers WHERE type = ?", (TransferType.DELETE.value,)
    )
    return PendingDeletions(dict(rows))


async def latest_insertion(store: SqliteStore) -> int:
    """Return when the newest transfer of the table was queued, or 0 if the table is empty."""
    # One search of the index per type, instead of a scan of the table.
    latest = [
        await store.fetch_one("SELECT MAX(inserted_at) FROM s3_transfers WHERE type = ?", (each,))
        for each in TransferType
    ]
    return max((row[0] or 0) for row in latest if row is not None)


class S3Transfers:
    """The table `s3_transfers`, a queue in the order of insertion.

    Of one content, a key is in the queue at most once per type. Queueing it again has no effect
    while it is queued. It may be queued for upload and for download at the same time, and for the
    upload of several contents, of which only the artifact's current one is uploaded.

    All methods raise `trio.ClosedResourceError` once the cache is closed, and
    `trio.BrokenResourceError` once the buffer's worker task has failed.
    """

    def __init__(
        self,
        store: SqliteStore,
        buffer: Buffer[S3Transfer],
        artifacts: Buffer[CasArtifact],
        *,
        clock: Clock,
        insertions: InsertionTimes,
        deletions: PendingDeletions,
        guard: CloseGuard | None = None,
    ) -> None:
        self._store = store
        self._buffer = buffer
        self._artifacts = artifacts
        self._clock = clock
        self._guard = guard or CloseGuard()
        self._insertions = insertions
        self.deletions = deletions
        self._update_all: CallBatcher[_Failure, None] = CallBatcher(self._record_failures)

    def guarded(self, guard: CloseGuard) -> S3Transfers:
        """Return this queue with another guard, and with the same state otherwise."""
        guarded = copy.copy(self)
        guarded._guard = guard  # noqa: SLF001  # a copy of this class
        return guarded

    async def enqueue_upload(
        self, account: str, project: str, artifact_type: str, key: str, *, sha256: str = ""
    ) -> None:
        """Queue the upload of an artifact's file to the object storage.

        Waits while the buffer is full. Cancelled, it has not queued the upload.

        Args:
            account: the account's handle.
            project: the project's handle.
            artifact_type: the kind of the artifact, as the server names it.
            key: the artifact's key, which is the object's key as well.
            sha256: the SHA-256 of the artifact's content, in hexadecimal digits. If this content
                is in the storage already, nothing is queued; another content of the key is queued
                separately. Empty: whatever the file has is uploaded.

        Raises:
            TypeError: an argument is not a str.
            ValueError: an argument is empty or cannot be encoded as UTF-8.
        """
        self._guard.check_open()
        if checked_utf8("sha256", sha256):
            artifact = await self._artifacts.get(checked_text("key", key))
            if artifact is not None and artifact.uploaded_sha256 == sha256:
                return
        await self._enqueue(TransferType.UPLOAD, account, project, artifact_type, key, sha256)

    async def enqueue_download(
        self, account: str, project: str, artifact_type: str, key: str
    ) -> None:
        """Queue the download of an object to the artifact's file.

        Waits while the buffer is full. Cancelled, it has not queued the download.

        Args:
            account: as for `enqueue_upload`.
            project: as for `enqueue_upload`.
            artifact_type: as for `enqueue_upload`.
            key: as for `enqueue_upload`.

        Raises:
            TypeError: as for `enqueue_upload`.
            ValueError: as for `enqueue_upload`.
        """
        await self._enqueue(TransferType.DOWNLOAD, account, project, artifact_type, key)

    async def enqueue_deletion(
        self, account: str, project: str, *, flush_timeout: float = _FLUSH_TIMEOUT
    ) -> None:
        """Queue the deletion of all objects of a project from the object storage.

        Until it is done, no artifact of the project is copied to or from the object storage.
        Artifacts that are here stay. Waits while the buffer is full. Cancelled, it may have queued
        the deletion.

        Args:
            account: the account's handle.
            project: the project's handle.
            flush_timeout: how long to wait until the deletion is committed, in seconds; at least
                0, or infinity. After it, a crash may forget the deletion.

        Raises:
            TypeError: a handle is not a str, or `flush_timeout` is not a number.
            ValueError: a handle is empty, has a slash, or cannot be encoded as UTF-8, or
                `flush_timeout` is less than 0.
        """
        self._guard.check_open()
        check_handles(account, project)
        check_timeout("flush_timeout", flush_timeout)
        prefix = f"{account}/{project}/"
        if self.deletions.request(prefix):
            deletion = self._transfer(TransferType.DELETE, account, project, "", prefix)
            self.deletions.add(deletion.id, prefix)
            try:
                await self._buffer.enqueue(deletion)
            except BaseException:
                self.deletions.discard(deletion.id)
                raise
        await self._flush(flush_timeout)

    async def _enqueue(
        self,
        transfer_type: TransferType,
        account: str,
        project: str,
        artifact_type: str,
        key: str,
        sha256: str = "",
    ) -> None:
        self._guard.check_open()
        checked_text("artifact_type", artifact_type)
        await self._buffer.enqueue(
            self._transfer(transfer_type, account, project, artifact_type, key, sha256)
        )

    def _transfer(
        self,
        transfer_type: TransferType,
        account: str,
        project: str,
        artifact_type: str,
        key: str,
        sha256: str = "",
    ) -> S3Transfer:
        return S3Transfer(
            id=str(uuid7()),
            type=transfer_type.value,
            account_handle=checked_text("account", account),
            project_handle=checked_text("project", project),
            artifact_type=artifact_type,
            key=checked_text("key", key),
            inserted_at=self._insertions.next(),
            attempts=0,
            next_attempt_at=0,
            sha256=sha256,
        )

    async def pending(
        self,
        transfer_type: TransferType | str,
        limit: int,
        *,
        after: S3Transfer | None = None,
        flush_timeout: float = _FLUSH_TIMEOUT,
    ) -> list[S3Transfer]:
        """Return the queued transfers of one type, in the order of their insertion.

        Flushes the buffer first, which waits while the disk is full or another process has locked
        the database. When `flush_timeout` has passed, it returns the committed transfers.
        Cancelled, it has changed nothing.

        Args:
            transfer_type: a `TransferType`, or the value of one.
            limit: the maximum number of transfers.
            after: the last transfer of the previous batch, to continue behind it.
            flush_timeout: how long to wait for the flush, in seconds; at least 0, or infinity.
                After it, transfers that were queued a moment ago are missing.

        Raises:
            TypeError: `limit` is not an int, `after` is not an S3Transfer, or `flush_timeout` is
                not a number.
            ValueError: `transfer_type` is unknown, `limit` is less than 1 or does not fit into
                SQLite's 64-bit integer, or `flush_timeout` is less than 0.
        """
        self._guard.check_open()
        transfer_type = TransferType(transfer_type)
        checked_limit("limit", limit)
        check_row("after", after, S3Transfer)
        check_timeout("flush_timeout", flush_timeout)
        return await self._read(
            "type = ? AND (inserted_at, id) > (?, ?) ORDER BY inserted_at, id LIMIT ?",
            (transfer_type.value, *_position(after), limit),
            flush_timeout,
        )

    async def _read(
        self,
        where: str,
        parameters: Sequence[str | int],
        flush_timeout: float = _FLUSH_TIMEOUT,
    ) -> list[S3Transfer]:
        """Flush the buffer, for a limited time, and return transfers of the table.

        If the time does not suffice, deleted transfers are not returned, but those that were queued
        a moment ago are missing.
        """
        flushed = await self._flush(flush_timeout)
        transfers = await self._select(where, parameters)
        return transfers if flushed else await self._queued(transfers)

    async def _flush(self, flush_timeout: float) -> bool:
        """Flush the buffer, and return whether this took no longer than the timeout."""
        with trio.move_on_after(flush_timeout) as timeout:
            await self._artifacts.flush()  # its rows may request uploads
            await self._buffer.flush()
        return not timeout.cancelled_caught

    async def _select(self, where: str, parameters: Sequence[str | int]) -> list[S3Transfer]:
        rows = await self._store.fetch_all(
            f"SELECT {_COLUMNS} FROM s3_transfers WHERE {where}",  # noqa: S608  # no values
            parameters,
        )
        return [S3Transfer(*row) for row in rows]

    async def _queued(self, transfers: Iterable[S3Transfer]) -> list[S3Transfer]:
        """Return those of the given transfers whose delete is not pending."""
        given = list(transfers)
        rows = await self._buffer.get_many([_key(each) for each in given])
        ids = {row.id for row in rows.values()}
        return [each for each in given if each.id in ids]

    async def is_queued(self, transfer: S3Transfer) -> bool:
        """Return whether a transfer is still in the queue: neither done nor dropped nor deleted.

        Cancelled, it has changed nothing.

        Args:
            transfer: the transfer, as `pending` returned it.
        """
        self._guard.check_open()
        return bool(await self._queued([transfer]))

    async def due(
        self,
        transfer_type: TransferType,
        limit: int,
        *,
        after: S3Transfer | None,
        until: S3Transfer,
        longest_delay: float,
    ) -> list[S3Transfer]:
        """Return queued transfers as `pending` does, without those whose next attempt is not due.

        Flushes the buffer first, for at most a second. Cancelled, it has changed nothing.

        Args:
            transfer_type: the type of the transfers.
            limit: the maximum number of transfers.
            after: the transfer to continue behind; None to begin with the first of the queue.
            until: the last transfer to return.
            longest_delay: the longest delay of an attempt, in seconds. A transfer whose next
                attempt is later than that is due, since the clock must have been set back.
        """
        self._guard.check_open()
        now = self._clock()
        return await self._read(
            "type = ? AND (inserted_at, id) > (?, ?) "
            "AND (inserted_at, id) <= (?, ?) "
            "AND (next_attempt_at > ? AND next_attempt_at <= ?) IS NOT TRUE "
            "ORDER BY inserted_at, id LIMIT ?",
            (
                transfer_type.value,
                *_position(after),
                *_position(until),
                now,
                now + _microseconds(longest_delay),
                limit,
            ),
        )

    async def newest(self, transfer_type: TransferType) -> S3Transfer | None:
        """Return the transfer of one type that was queued last, or None if there is none.

        Flushes the buffer first, for at most a second. If that does not suffice, the newest one
        may have left the queue already. Cancelled, it has changed nothing.

        Args:
            transfer_type: the type of the transfer.
        """
        self._guard.check_open()
        await self._flush(_FLUSH_TIMEOUT)
        newest = await self._select(
            "type = ? ORDER BY inserted_at DESC, id DESC LIMIT 1", (transfer_type.value,)
        )
        return newest[0] if newest else None

    async def count(self, transfer_type: TransferType) -> int:
        """Return the number of committed transfers of one type. Cancelled, it changes nothing.

        Args:
            transfer_type: the type of the transfers.
        """
        self._guard.check_open()
        row = await self._store.fetch_one(
            "SELECT COUNT(*) FROM s3_transfers WHERE type = ?", (transfer_type.value,)
        )
        return 0 if row is None else int(row[0])

    async def delete(self, ids: Iterable[str]) -> None:
        """Remove transfers from the queue, since they are done or dropped.

        Waits while the buffer is full, and until the removal of a project's deletion is committed:
        otherwise a crash could repeat the deletion after later uploads. Cancelled, it may have
        removed some of them.

        Args:
            ids: the transfers' ids. Unknown and repeated ids are ignored.

        Raises:
            TypeError: an id is not a str, or `ids` is a single str; nothing is removed.
            ValueError: an id is empty or cannot be encoded as UTF-8; nothing is removed.
        """
        self._guard.check_open()
        identifiers = checked_texts("ids", ids)
        for identifier in identifiers:
            await self._buffer.enqueue_delete_by(identifier)
        if deletions := [each for each in identifiers if each in self.deletions]:
            await self._buffer.flush()
            for each in deletions:
                self.deletions.discard(each)

    async def delete_project(
        self, account: str, project: str, *, flush_timeout: float = _FLUSH_TIMEOUT
    ) -> int:
        """Remove the uploads and downloads of a project from the queue.

        A transfer in progress continues; a download that ends after this is discarded. Waits while
        the buffer is full. Cancelled, it may have removed some of them.

        Args:
            account: the account's handle.
            project: the project's handle.
            flush_timeout: how long to wait for the flush, in seconds; at least 0, or infinity.
                After it, transfers that were queued a moment ago are not removed.

        Returns:
            How many transfers were removed.

        Raises:
            TypeError: a handle is not a str, or `flush_timeout` is not a number.
            ValueError: a handle is empty or cannot be encoded as UTF-8, or `flush_timeout` is less
                than 0.
        """
        self._guard.check_open()
        handles = (checked_text("account", account), checked_text("project", project))
        check_timeout("flush_timeout", flush_timeout)
        await self._flush(flush_timeout)
        last, deleted = "", 0
        while transfers := await self._select(
            "account_handle = ? AND project_handle = ? AND type <> ? AND id > ? "
            "ORDER BY id LIMIT ?",
            (*handles, TransferType.DELETE.value, last, _BATCH),
        ):
            for each in await self._queued(transfers):
                await self._buffer.enqueue_delete_by(each.id)
                deleted += 1
            last = transfers[-1].id
        return deleted

    async def record_failure(self, transfer: S3Transfer, *, delay: float = 0.0) -> None:
        """Count a failed attempt at a transfer in the table, so that a restart does not forget it.

        The row is found by the transfer's id. If the transfer was deleted meanwhile, nothing is
        changed, and a later transfer of the same key is not affected. The update does not go
        through the buffer, which finds rows by their key; the updates of many tasks share a
        transaction. Cancelled, it may have counted the attempt.

        Args:
            transfer: the transfer, as `pending` returned it.
            delay: how long the worker waits before the next attempt, in seconds.

        Raises:
            sqlite3.Error: the update failed; the attempt is not counted.
        """
        self._guard.check_open()
        next_attempt_at = self._clock() + _microseconds(delay)
        await self._update_all(_Failure(transfer.attempts + 1, next_attempt_at, transfer.id))

    async def _record_failures(self, failures: Sequence[_Failure]) -> list[None]:
        await self._store.run(_update, failures)
        return [None] * len(failures)


def _update(raw: Executes, failures: Sequence[_Failure]) -> None:
    for failure in failures:
        raw.execute(
            "UPDATE main.s3_transfers SET attempts = ?, next_attempt_at = ? WHERE id = ?", failure
        )


def _key(transfer: S3Transfer) -> tuple[str, str, str]:
    """Return the key of a transfer's row."""
    return transfer.type, transfer.key, transfer.sha256


def _position(transfer: S3Transfer | None) -> tuple[int, str]:
    """Return the position of a transfer in the queue, or the start of the queue for None."""
    return _START if transfer is None else (transfer.inserted_at, transfer.id)


def _microseconds(seconds: float) -> int:
    return int(seconds * 1_000_000)
