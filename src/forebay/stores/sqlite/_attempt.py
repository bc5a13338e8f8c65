"""An attempt to commit one batch: it passes the batch to the writer's thread."""

from __future__ import annotations

import sqlite3

import trio

from forebay import sqlite
from forebay._batching.batch import Batch
from forebay.stores import Outcome, PromptAttempt
from forebay.stores.sqlite._commit import BatchCommitter, TransactionHook
from forebay.stores.sqlite._files import DatabaseFiles
from forebay.stores.sqlite._positions import SavedPositions
from forebay.stores.sqlite._sharing import KnownEffects


class SqliteAttempt(PromptAttempt):
    """The attempt to commit one batch to a SQLite file. See `forebay.stores.Attempt`."""

    def __init__(
        self,
        batch: Batch,
        *,
        writer: sqlite.Connection,
        files: DatabaseFiles,
        saved_positions: SavedPositions,
        known_effects: KnownEffects,
        variables: int,
        before_commit: TransactionHook | None,
    ) -> None:
        self._writer = writer
        self._files = files
        self._saved_positions = saved_positions
        self._begun: sqlite.BegunCall[Outcome] | None = None
        """The transaction that `commit_nowait` has begun, if it has not ended."""
        self._committer = BatchCommitter(
            batch,
            variables=variables,
            known_effects=known_effects,
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
        try:
            if self._begun is not None:
                begun, self._begun = self._begun, None
                return await begun.wait()
            # The caller settles what is committed before other tasks run.
            return await self._writer.run_eagerly(self._commit_in_thread, rejection_limit)
        except Exception as error:  # noqa: BLE001  # raised as another one
            self._committer.raise_batch_error(error)
        finally:
            self._note_saved_position()

    def commit_nowait(self, *, rejection_limit: float) -> Outcome:
        """Commit the batch if that takes no longer than some 100 µs.

        Args:
            rejection_limit: as for `commit`.

        Raises:
            trio.WouldBlock: it takes longer, or the writer is not free; `commit` goes on with it.
            BatchError: as for `commit`.
            FloodError: as for `commit`.
        """
        try:
            begun = self._writer.begin(self._commit_in_thread, rejection_limit)
            if begun.has_ended:
                return begun.outcome()
        except trio.WouldBlock:
            raise
        except Exception as error:  # noqa: BLE001  # raised as another one
            self._committer.raise_batch_error(error)
        finally:
            self._note_saved_position()
        self._begun = begun
        raise trio.WouldBlock

    def _note_saved_position(self) -> None:
        if self._committer.saved_position:
            self._saved_positions.add(self._committer.batch.stream)

    def _commit_in_thread(self, raw: sqlite3.Connection, rejection_limit: float) -> Outcome:
        return self._files.guard(self._committer.commit_remaining, raw, rejection_limit)
