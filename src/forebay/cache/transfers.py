"""`S3Transfers`: the queue of artifacts that are to be copied to and from the object storage."""

from __future__ import annotations

from collections.abc import Iterable

from uuid_utils import uuid7

from forebay import Buffer, SqliteStore
from forebay.cache._check import checked_limit, checked_text
from forebay.cache._gate import Gate
from forebay.cache.tables import Clock, S3Transfer, TransferType


class S3Transfers:
    """The table `s3_transfers`.

    One key is queued once for each way at the most: to queue it again, while it is, does
    nothing. It may be queued for upload and for download.

    Once the cache is closed, all methods raise `trio.ClosedResourceError`; once the buffer's
    worker has failed, `trio.BrokenResourceError`.
    """

    def __init__(
        self, store: SqliteStore, buffer: Buffer[S3Transfer], *, clock: Clock, gate: Gate
    ) -> None:
        self._store = store
        self._buffer = buffer
        self._clock = clock
        self._gate = gate
        self._last = 0

    async def enqueue_upload(
        self, account: str, project: str, artifact_type: str, key: str
    ) -> None:
        """Queue an artifact's file to be copied to the object storage.

        Waits while the buffer is full. Cancelled, it has queued nothing.

        Args:
            account: the account's handle.
            project: the project's handle.
            artifact_type: what kind of artifact it is, as the server names it.
            key: the artifact's key; the object has the same.

        Raises:
            TypeError: an argument is no text.
            ValueError: one is empty, or cannot be expressed in UTF-8.
        """
        await self._enqueue(TransferType.UPLOAD, account, project, artifact_type, key)

    async def enqueue_download(
        self, account: str, project: str, artifact_type: str, key: str
    ) -> None:
        """Queue an object to be copied to the artifact's file. As `enqueue_upload`.

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

    async def _enqueue(
        self, way: TransferType, account: str, project: str, artifact_type: str, key: str
    ) -> None:
        self._gate.check()
        transfer = S3Transfer(
            id=str(uuid7()),
            type=way.value,
            account_handle=checked_text("account", account),
            project_handle=checked_text("project", project),
            artifact_type=checked_text("artifact_type", artifact_type),
            key=checked_text("key", key),
            inserted_at=self._next(),
            attempts=0,
        )
        await self._buffer.enqueue(transfer)

    def _next(self) -> int:
        # Later than the last one, if two fall on one microsecond or the clock is set back: the
        # queue is in the order of insertion.
        self._last = max(self._last + 1, self._clock())
        return self._last

    async def pending(
        self, way: TransferType | str, limit: int, *, after: S3Transfer | None = None
    ) -> list[S3Transfer]:
        """Give transfers that are queued, in the order of their insertion.

        Flushes before. Cancelled, it has changed nothing.

        Args:
            way: `TransferType.UPLOAD` or `TransferType.DOWNLOAD`, or their values.
            limit: how many at the most.
            after: the last one of a batch before, to go on from there.

        Raises:
            ValueError: `way` is neither, or `limit` is less than 1.
        """
        self._gate.check()
        way = TransferType(way)
        checked_limit("limit", limit)
        await self._buffer.flush()
        start = (-(2**63), "") if after is None else (after.inserted_at, after.id)
        rows = await self._store.fetch_all(
            "SELECT id, type, account_handle, project_handle, artifact_type, key, inserted_at, "
            "attempts FROM s3_transfers WHERE type = ? AND (inserted_at, id) > (?, ?) "
            "ORDER BY inserted_at, id LIMIT ?",
            (way.value, *start, limit),
        )
        return [S3Transfer(*row) for row in rows]

    async def delete(self, ids: Iterable[str]) -> None:
        """Take transfers out of the queue: they are done, or given up.

        Waits while the buffer is full. Cancelled, it may have taken out some of them.

        Args:
            ids: which; those that are not there, or named twice, are no error, and no ids at all
                are nothing to do.

        Raises:
            TypeError: one is no text.
        """
        self._gate.check()
        for identifier in ids:
            await self._buffer.enqueue_delete_by(identifier)

    async def note_failure(self, transfer: S3Transfer) -> None:
        """Count one more attempt at a transfer, in the table, so that a restart forgets none.

        Waits while the buffer is full. Cancelled, it has counted nothing.

        Args:
            transfer: the transfer, as `pending` gave it.
        """
        self._gate.check()
        await self._buffer.enqueue_update(
            (transfer.type, transfer.key), attempts=transfer.attempts + 1
        )
