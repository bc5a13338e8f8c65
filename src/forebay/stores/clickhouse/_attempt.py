"""An attempt to commit one batch: it is checked, encoded, and added to the spool."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable

from forebay._batching.batch import Batch
from forebay.stores import BatchError, FailureKind, Outcome
from forebay.stores.clickhouse._declared import Kind
from forebay.stores.clickhouse._encoder import BlockEncoder
from forebay.stores.clickhouse._encoding import ValueRefusedError
from forebay.stores.clickhouse._spool import Spool
from forebay.stores.clickhouse._spool_table import save_version
from forebay.stores.sqlite._commit import BatchCommitter, RowRefusedError


class TableWriter:
    """Adds the batches of one table to the spool, in an open transaction.

    Args:
        encoder: encodes them.
        spool: the spool.
        version: the last version that was given to a row.
    """

    def __init__(self, encoder: BlockEncoder, spool: Spool, *, version: int) -> None:
        self.encoder = encoder
        self._spool = spool
        self._version = version

    def write(self, raw: sqlite3.Connection, batch: Batch) -> None:
        """Add a batch.

        Raises:
            RowRefusedError: a column of the server cannot hold a value.
        """
        version = max(self._version + 1, time.time_ns())
        try:
            blocks = self.encoder.encode(batch, version)
        except ValueRefusedError as error:
            raise RowRefusedError from error
        name = batch.table.name
        if self.encoder.kind is Kind.REPLACE:
            self._version = version
            save_version(raw, name, version)
        for block in blocks:
            self._spool.insert(raw, name, self.encoder.sql, block)


class _SpoolCommitter(BatchCommitter):
    """Commits one batch to the spool, where no rule of a table can refuse a row."""

    def __init__(self, batch: Batch, writer: TableWriter) -> None:
        super().__init__(batch, variables=0)
        self._writer = writer

    def check_sharing(self, raw: sqlite3.Connection, batch: Batch) -> None:
        """Allow all entries to share the transaction."""

    def execute(self, raw: sqlite3.Connection, batch: Batch) -> None:
        """Add a batch to the spool."""
        self._writer.write(raw, batch)


class ClickHouseAttempt:
    """The attempt to add one batch to the spool. See `forebay.stores.Attempt`."""

    def __init__(
        self, batch: Batch, *, writer: TableWriter, spool: Spool, wake: Callable[[], None]
    ) -> None:
        self._spool = spool
        self._wake = wake
        self._committer = _SpoolCommitter(batch, writer)

    async def commit(self, *, rejection_limit: float) -> Outcome:
        """Add the part of the batch that is not in the spool yet.

        Once the transaction has begun, cancellation waits until it has ended.

        Args:
            rejection_limit: the number of entries of the batch that may become dead letters.

        Raises:
            BatchError: the batch was not added, because the spool is full or cannot be written; or
                COMMIT is in doubt.
            FloodError: more entries than `rejection_limit` cannot be sent.
        """
        spool = self._spool
        if spool.bytes >= spool.limit:
            raise BatchError(
                f"the spool {spool.path!r} is full: {spool.bytes:,} bytes wait for ClickHouse, and "
                f"spool_bytes is {spool.limit:,}; `forebay spool list` shows why they wait",
                kind=FailureKind.TRANSIENT,
                code="SPOOL_FULL",
            )
        try:
            return await spool.connection.run(self._commit, rejection_limit)
        except Exception as error:  # noqa: BLE001  # raised as another one
            self._committer.raise_batch_error(error)
        finally:
            self._wake()  # also after a failure: a part of the batch may be in the spool

    def _commit(self, raw: sqlite3.Connection, rejection_limit: float) -> Outcome:
        spool, committer = self._spool, self._committer
        with spool.files.checked(), spool.counted(raw, committer.batch.table.name):
            return committer.commit_remaining(raw, rejection_limit)
