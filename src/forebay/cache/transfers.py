"""`S3Transfers`: the queue of artifacts that are to be copied to and from the object storage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from uuid_utils import uuid7

from forebay import Buffer, SqliteStore
from forebay.cache._check import checked_limit, checked_row, checked_text, checked_texts
from forebay.cache._gate import Gate
from forebay.cache._together import Together
from forebay.cache.tables import Clock, Executes, S3Transfer, TransferType

_COLUMNS = (
    "id, type, account_handle, project_handle, artifact_type, key, inserted_at, attempts, "
    "next_attempt_at"
)

_BEGINNING = (-(2**63), "")
"""Before every transfer."""


class _Failure(NamedTuple):
    """What one row of the table becomes by a failed attempt."""

    attempts: int
    next_attempt_at: int
    id: str


async def newest_insertion(store: SqliteStore) -> int:
    """Tell when the last transfer of the table was queued; 0 where it is empty."""
    # One look at the index for each way, not a scan of the table.
    latest = [
        await store.fetch_one("SELECT MAX(inserted_at) FROM s3_transfers WHERE type = ?", (way,))
        for way in TransferType
    ]
    return max((row[0] or 0) for row in latest if row is not None)


class S3Transfers:
    """The table `s3_transfers`.

    One key is queued once for each way at the most: to queue it again, while it is, does
    nothing. It may be queued for upload and for download.

    Once the cache is closed, all methods raise `trio.ClosedResourceError`; once the buffer's
    worker has failed, `trio.BrokenResourceError`.
    """

    def __init__(
        self,
        store: SqliteStore,
        buffer: Buffer[S3Transfer],
        *,
        clock: Clock,
        gate: Gate,
        newest: int,
    ) -> None:
        self._store = store
        self._buffer = buffer
        self._clock = clock
        self._gate = gate
        self._newest = newest
        self._note_all: Together[_Failure, None] = Together(self._note_failures)

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
            next_attempt_at=0,
        )
        await self._buffer.enqueue(transfer)

    def _next(self) -> int:
        # Later than the last one, if two fall on one microsecond or the clock is set back, before
        # a restart too: the queue is in the order of insertion.
        self._newest = max(self._newest + 1, self._clock())
        return self._newest

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
            TypeError: `limit` is no whole number, or `after` no transfer.
            ValueError: `way` is neither, or `limit` is less than 1, or past 63 bits.
        """
        self._gate.check()
        way = TransferType(way)
        checked_limit("limit", limit)
        checked_row("after", after, S3Transfer)
        await self._buffer.flush()
        rows = await self._store.fetch_all(
            f"SELECT {_COLUMNS} FROM s3_transfers WHERE type = ? AND (inserted_at, id) > (?, ?) "  # noqa: S608  # no values
            "ORDER BY inserted_at, id LIMIT ?",
            (way.value, *_place(after), limit),
        )
        return [S3Transfer(*row) for row in rows]

    async def due(
        self,
        way: TransferType,
        limit: int,
        *,
        after: S3Transfer | None,
        until: S3Transfer,
        longest: float,
    ) -> list[S3Transfer]:
        """Give those of the queued transfers that are not put off, as `pending` gives them.

        Flushes before. Cancelled, it has changed nothing.

        Args:
            way: which way.
            limit: how many at the most.
            after: the one to go on behind; None for the first of the queue.
            until: the last one to give.
            longest: how long a transfer may be put off, in seconds. One that is put off for
                longer is due: the clock was set back since.
        """
        self._gate.check()
        await self._buffer.flush()
        now = self._clock()
        rows = await self._store.fetch_all(
            f"SELECT {_COLUMNS} FROM s3_transfers WHERE type = ? AND (inserted_at, id) > (?, ?) "  # noqa: S608  # no values
            "AND (inserted_at, id) <= (?, ?) "
            "AND (next_attempt_at > ? AND next_attempt_at <= ?) IS NOT TRUE "
            "ORDER BY inserted_at, id LIMIT ?",
            (way.value, *_place(after), *_place(until), now, now + _micros(longest), limit),
        )
        return [S3Transfer(*row) for row in rows]

    async def newest(self, way: TransferType) -> S3Transfer | None:
        """Give the transfer that was queued last; None where none is.

        Flushes before. Cancelled, it has changed nothing.

        Args:
            way: which way.
        """
        self._gate.check()
        await self._buffer.flush()
        row = await self._store.fetch_one(
            f"SELECT {_COLUMNS} FROM s3_transfers WHERE type = ? "  # noqa: S608  # no values
            "ORDER BY inserted_at DESC, id DESC LIMIT 1",
            (way.value,),
        )
        return None if row is None else S3Transfer(*row)

    async def delete(self, ids: Iterable[str]) -> None:
        """Take transfers out of the queue: they are done, or given up.

        Waits while the buffer is full. Cancelled, it may have taken out some of them.

        Args:
            ids: which; those that are not there, or named twice, are no error, and no ids at all
                are nothing to do.

        Raises:
            TypeError: one is no text, or `ids` is a single text; nothing is taken out.
            ValueError: one is empty, or cannot be expressed in UTF-8; nothing is taken out.
        """
        self._gate.check()
        for identifier in checked_texts("ids", ids):
            await self._buffer.enqueue_delete_by(identifier)

    async def note_failure(self, transfer: S3Transfer, *, wait: float = 0.0) -> None:
        """Count a failed attempt at a transfer, in the table, so that a restart forgets none.

        It goes by the transfer's id: one that was taken out of the queue meanwhile is not there
        to be counted, and one of the same key that was queued since is another. Not by way of
        the buffer, since that goes by the key; the notes of many tasks share a transaction.
        Cancelled, it may have counted the attempt.

        Args:
            transfer: the transfer, as `pending` gave it.
            wait: how long it is put off, in seconds: before that the worker does not try it again.

        Raises:
            sqlite3.Error: what SQLite answered; nothing was counted.
        """
        self._gate.check()
        next_attempt_at = self._clock() + _micros(wait)
        await self._note_all(_Failure(transfer.attempts + 1, next_attempt_at, transfer.id))

    async def _note_failures(self, failures: Sequence[_Failure]) -> list[None]:
        await self._store.run(_update, failures)
        return [None] * len(failures)


def _update(raw: Executes, failures: Sequence[_Failure]) -> None:
    for failure in failures:
        raw.execute(
            "UPDATE s3_transfers SET attempts = ?, next_attempt_at = ? WHERE id = ?", failure
        )


def _place(transfer: S3Transfer | None) -> tuple[int, str]:
    """Give where a transfer stands in the queue."""
    return _BEGINNING if transfer is None else (transfer.inserted_at, transfer.id)


def _micros(seconds: float) -> int:
    return int(seconds * 1_000_000)
