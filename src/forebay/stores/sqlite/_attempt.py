"""An attempt to commit one batch: it passes the batch to the writer's thread."""

from __future__ import annotations

import sqlite3

from forebay import sqlite
from forebay._batching.batch import Batch
from forebay.stores import Outcome
from forebay.stores.sqlite._commit import BatchCommitter, TransactionHook
from forebay.stores.sqlite._files import DatabaseFiles
from forebay.stores.sqlite._positions import SavedPositions


class SqliteAttempt:
    """The attempt to commit one batch to a SQLite file. See `forebay.stores.Attempt`."""

    def __init__(
        self,
        batch: Batch,
        *,
        writer: sqlite.Connection,
        files: DatabaseFiles,
        saved_positions: SavedPositions,
        variables: int,
        before_commit: TransactionHook | None,
    ) -> None:
        self._writer = writer
        self._files = files
        self._saved_positions = saved_positions
        self._committer = BatchCommitter(
            batch,
            variables=variables,
            saved_position=batch.stream in saved_positions,
            check_files=files.check,
            before_commit=before_commit,
        )

    async def commit(self, *, rejection_limit: float) -> Outcome:
        """Commit the part of the batch that is not settled yet.

        Once the transaction has begun, cancellation waits until it has ended, so that its outcome
        is always known.

        Args:
            rejection_limit: the number of entries of the batch that may become dead letters.

        Raises:
            BatchError: the batch was not committed, or COMMIT is in doubt.
            FloodError: the table refused more entries than `rejection_limit`.
        """
        committer = self._committer
        try:
            # The caller settles what is committed before other tasks run.
            return await self._writer.run_eagerly(self._commit_in_thread, rejection_limit)
        except Exception as error:  # noqa: BLE001  # raised as another one
            committer.raise_batch_error(error)
        finally:
            if committer.saved_position:
                self._saved_positions.add(committer.batch.stream)

    def _commit_in_thread(self, raw: sqlite3.Connection, rejection_limit: float) -> Outcome:
        return self._files.guard(self._committer.commit_remaining, raw, rejection_limit)
