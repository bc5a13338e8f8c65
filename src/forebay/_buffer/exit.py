"""The end of an `open_buffers` block: the errors that it raises, and the spill of their entries."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial

import trio

from forebay._buffer.worker import Worker
from forebay._database import Database
from forebay._errors import DrainError, FlushError
from forebay._protection import raise_together
from forebay._spill import write_spill

_SPILL_TIMEOUT = 10.0
"""How long to wait for a thread that can write the spill, in seconds.

A thread that has begun to write is not abandoned: it is waited for without a limit.
"""


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
    path: str | os.PathLike[str],
    workers: Sequence[Worker],
    errors: Sequence[FlushError | DrainError],
    database: Database | None,
) -> None:
    """Write the unsettled entries to a file, and set its path on the errors or add a note."""
    unsettled = {
        worker.buffer.table: left.entries
        for worker in workers
        if (left := worker.failure.unsettled if worker.failure else worker.left_at_deadline)
        is not None
    }
    problem = f"no thread was free to write the spill within {_SPILL_TIMEOUT:g} s"
    with trio.move_on_after(_SPILL_TIMEOUT, shield=True):
        try:
            file = await trio.to_thread.run_sync(
                partial(
                    write_spill,
                    path,
                    unsettled,
                    reason="; ".join(each.reason for each in errors),
                    database=database,
                )
            )
        except Exception as error:  # noqa: BLE001  # whatever it is, the entries must be named
            problem = f"writing the spill failed with {error!r}"
        else:
            for each in errors:
                each.spill = str(file)
            return
    for each in errors:
        each.add_note(f"the entries are only in this error, in no file: {problem}")


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
