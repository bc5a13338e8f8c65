"""The end of an `open_buffers` block: the errors that it raises, and the spill of their entries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import trio

from forebay._buffer.log import log_lost_spill, log_spill
from forebay._buffer.worker import Worker
from forebay._database import Database
from forebay._errors import DrainError, FlushError
from forebay._protection import raise_together
from forebay._spill.writing import write_spill
from forebay._table.operations import Operation
from forebay._table.table import Table


def buffer_errors(workers: Sequence[Worker]) -> list[FlushError | DrainError]:
    """Return the errors to raise for buffers that ended with unsettled entries."""
    failures = [worker.failure for worker in workers if worker.failure is not None]
    left = {
        worker.buffer.name: worker.left_at_deadline
        for worker in workers
        if worker.left_at_deadline is not None
    }
    return [*failures, *([DrainError(left)] if left else [])]


async def spill_unsettled(
    path: Path,
    workers: Sequence[Worker],
    errors: Sequence[FlushError | DrainError],
    database: Database | None,
) -> None:
    """Write the unsettled entries to a file, and set its path on the errors or add a note.

    It raises nothing, so that the errors, which have the entries, leave the block. Call it in a
    shielded scope.
    """
    try:
        file, doubt = await _write_spill(path, workers, errors, database)
    except Exception as error:  # noqa: BLE001  # whatever it is, the entries must be named
        log_lost_spill(path, error)
        for each in errors:
            each.spill_failed = True
            each.add_note(
                f"the entries are only in this error, in no file: writing the spill failed with "
                f"{error!r}"
            )
        return
    log_spill(file, sum(map(len, _unsettled(workers).values())))
    for each in errors:
        each.spill = str(file)
        if doubt is not None:
            each.add_note(f"a power failure may damage the spill {str(file)!r}: {doubt}")


def _unsettled(workers: Sequence[Worker]) -> dict[Table[Any], Sequence[Operation]]:
    """Return the entries that are not settled, by their table."""
    return {
        worker.buffer.table: left.entries
        for worker in workers
        if (left := worker.failure.unsettled if worker.failure else worker.left_at_deadline)
        is not None
    }


async def _write_spill(
    path: Path,
    workers: Sequence[Worker],
    errors: Sequence[FlushError | DrainError],
    database: Database | None,
) -> tuple[Path, str | None]:
    unsettled = _unsettled(workers)
    begun = False

    def write() -> tuple[Path, str | None]:
        nonlocal begun
        begun = True
        doubts: list[str] = []
        reason = "; ".join(each.reason for each in errors)
        file = write_spill(
            path, unsettled, reason=reason, database=database, on_doubt=doubts.append
        )
        return file, next(iter(doubts), None)

    # A limiter of its own, so that it never waits for threads of the program.
    limiter = trio.CapacityLimiter(1)
    try:
        return await trio.to_thread.run_sync(write, limiter=limiter)
    except Exception:
        if begun:
            raise
        # Otherwise no thread could be started.
    # It blocks the event loop, which is better than to lose the entries.
    return write()


def raise_errors(body_errors: Sequence[BaseException], buffer_errors: Sequence[Exception]) -> None:
    """Raise the errors that leave the block, as `open_buffers` documents."""

    def is_consequence(error: BaseException) -> bool:
        return isinstance(error, trio.BrokenResourceError) and error.__cause__ in buffer_errors

    def is_cancelled(error: BaseException) -> bool:
        return isinstance(error, trio.Cancelled)

    errors = [*_without(is_consequence, _with_one_interrupt(body_errors)), *buffer_errors]
    if len(errors) > 1:
        errors = _without(is_cancelled, errors)
    raise_together("the open_buffers block and its buffers failed", errors)


def _with_one_interrupt(errors: Sequence[BaseException]) -> list[BaseException]:
    """Return the errors without the KeyboardInterrupts that follow the first one."""
    interrupts = [error for error in errors if isinstance(error, KeyboardInterrupt)]
    return [error for error in errors if error not in interrupts[1:]]


def _without(
    unwanted: Callable[[BaseException], bool], errors: Sequence[BaseException]
) -> list[BaseException]:
    """Return the errors without the unwanted ones, which are removed from groups, too."""
    remaining: list[BaseException] = []
    for error in errors:
        group = error if isinstance(error, BaseExceptionGroup) else BaseExceptionGroup("", [error])
        dropped, rest = group.split(unwanted)
        if dropped is None:
            remaining.append(error)
        elif rest is not None:
            remaining.append(rest)
    return remaining
