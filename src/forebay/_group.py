"""`open_buffers`: one nursery with one worker task per table, and the drain that ends them."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextvars import Context
from functools import partial
from typing import Any, TypeVar

import trio

from forebay._buffer.buffer import Buffer
from forebay._buffer.exit import buffer_errors, raise_errors, spill_unsettled
from forebay._buffer.observer import Observe
from forebay._buffer.statistics import BufferStatistics
from forebay._buffer.worker import Worker
from forebay._errors import OptionsError
from forebay._options import BufferOptions
from forebay._protection import protected_context, run_to_end
from forebay._spill.writing import check_spill_path
from forebay._table.sqlite_rules import fold_case
from forebay._table.table import Table
from forebay._telemetry.otel import MeterProvider, TracerProvider, observer_factory
from forebay.stores import Store

R = TypeVar("R")


class Buffers:
    """The buffers of one `open_buffers` block, by their tables."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers
        self._buffers = {worker.buffer.table: worker.buffer for worker in workers}

    def __getitem__(self, table: Table[R]) -> Buffer[R]:
        """Return the buffer of a table.

        Raises:
            KeyError: `open_buffers` was not called with this table.
        """
        try:
            return self._buffers[table]
        except KeyError:
            names = ", ".join(repr(buffer.name) for buffer in self)
            raise KeyError(
                f"{table!r} has no buffer here: this open_buffers block was opened with the "
                f"tables {names}; use one of these Table objects as the key, not a name or a copy"
            ) from None

    def __iter__(self) -> Iterator[Buffer[Any]]:
        """Iterate over the buffers, in the order of the arguments of `open_buffers`."""
        return iter(self._buffers.values())

    def __len__(self) -> int:
        return len(self._buffers)

    def __repr__(self) -> str:
        return f"<forebay.Buffers of {', '.join(repr(buffer.name) for buffer in self)}>"

    async def flush(self) -> None:
        """Flush all buffers now, and return once all entries accepted before are settled.

        If this is cancelled, it only stops waiting.

        Raises:
            trio.BrokenResourceError: the worker of one of the buffers failed before.
        """
        self._check_owner()
        await trio.lowlevel.checkpoint_if_cancelled()
        numbers = [worker.channel.request_flush() for worker in self._workers]
        for worker, number in zip(self._workers, numbers, strict=True):
            await worker.ledger.wait_settled(number)

    def give_up(self) -> None:
        """End the drain at once, or as soon as it begins, as if its deadline had passed.

        Call this for a second signal, from an operator who does not want to wait. A transaction
        that has begun is still finished. The `DrainError` names the entries that are not settled.

        Raises:
            RuntimeError: this is not the thread that opened the buffers.
        """
        self._check_owner()
        _give_up(self._workers)

    def _check_owner(self) -> None:
        for worker in self._workers:
            worker.channel.check_owner()

    def statistics(self) -> dict[str, BufferStatistics]:
        """Return the state of each buffer now, by the name of its table."""
        return {buffer.name: buffer.statistics() for buffer in self}


def worker_of(buffers: Buffers, table: Table[Any]) -> Worker:
    """Return the worker of a table, for `forebay load`, which needs more than the buffer."""
    workers = buffers._workers  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # not public
    return next(worker for worker in workers if worker.buffer.table is table)


@protected_context
async def open_buffers(
    store: Store,
    *tables: Table[Any],
    options: BufferOptions | None = None,
    overrides: Mapping[str, BufferOptions] | None = None,
    spill: str | os.PathLike[str] | None = None,
    meter_provider: MeterProvider | None = None,
    tracer_provider: TracerProvider | None = None,
) -> AsyncGenerator[Buffers, None]:
    """Open a write-behind buffer in front of each table for the time of an `async with` block.

    Leaving the block drains the buffers, whether it ends normally, by an exception, or by
    cancellation: the buffers accept no more entries, flush those that they accepted, and then the
    block ends. Cancellation does not cut the drain short. Its deadline does, which is
    `BufferOptions.drain_timeout` after the drain began.

    If the drain succeeds, an exception of the body leaves the block unchanged. If a buffer fails,
    the body is cancelled, the other buffers drain, and the block raises `FlushError`. If a buffer
    cannot drain in time, the block raises `DrainError`. In both cases errors of the body are
    dropped if they only report that a buffer is broken or that the body was cancelled. If more
    than one error is left, the block raises an `ExceptionGroup` of them.

    A `KeyboardInterrupt` in the body drains like any exception. A `KeyboardInterrupt` during the
    drain ends it at once, as `Buffers.give_up` does.

    Args:
        store: where the rows are committed, such as the one that `open_sqlite` opens.
        *tables: the tables: at least one, and no two with the same name.
        options: the options of all buffers; None for the defaults.
        overrides: other options for some of the buffers, by the name of their table.
        spill: a file for the entries that a `FlushError` or `DrainError` names, so that they
            outlive the program. It is written only in that case, is readable by its owner only,
            and replaces no other file: if the name is taken, `.1` is appended. Its folder must
            exist. A symbolic link, and a file of another user, is refused. The spill names
            its database by an id, which is written to a table of the database, `forebay_database`.
            `forebay dead-letters replay` and `forebay.dead_letters.import_spill` bring the entries
            back. If a COMMIT was in doubt, its batch may be in the spill and in the table.
        meter_provider: OpenTelemetry's provider of meters; None for the global one.
        tracer_provider: OpenTelemetry's provider of tracers; None for the global one, which has
            to be set before this call, since it is looked up once.

    Yields:
        The buffers, by table.

    Raises:
        TypeError: the options or a provider have a wrong type.
        OptionsError: `overrides` names a table that is not among the tables, or no spill can be
            written to the path `spill`.
        ValueError: there are no tables, or two have the same name.
        SchemaError: a table is not in the database as it was declared.
        StoreError: the database cannot be read.
        FlushError: a buffer failed. The error names its entries.
        DrainError: the deadline of the drain passed. The error names the entries of each table.
    """
    observe = observer_factory(store, meter_provider, tracer_provider)
    workers = _make_workers(
        store,
        tables,
        BufferOptions() if options is None else options,
        {} if overrides is None else overrides,
        observe,
    )
    process = os.getpid()
    spill_path = None if spill is None else check_spill_path(spill)
    await store.prepare(tables)
    database = None
    if spill_path is not None:
        # The id is read now, since the database may not answer when there is something to spill.
        database = await store.identify()
    body_errors: list[BaseException] = []
    async with trio.open_nursery() as nursery:
        try:
            with trio.CancelScope() as body:
                for worker in workers:
                    worker.observer.opened()
                    # The context is empty, or the current span, such as that of the request
                    # which happens to open the buffers, would be the parent of every flush.
                    run = partial(_run, worker, body)
                    name = f"forebay {worker.buffer.name}"
                    Context().run(partial(nursery.start_soon, run, name=name))
                yield Buffers(workers)
        except BaseException as error:  # noqa: BLE001  # raised again after the drain
            body_errors.append(error)
        # Each worker has its own shield with a deadline, which `close` sets. This shield only
        # protects the wait for the workers, so it ends with them.
        nursery.cancel_scope.shield = True
        for worker in workers:
            worker.close()
        errors = await run_to_end(
            partial(_wait_for_all, workers), on_interrupt=partial(_give_up, workers)
        )
    # In a fork of the program the pending entries still belong to the parent process, which
    # writes them and names those that it cannot write.
    failures = buffer_errors(workers) if os.getpid() == process else []
    if spill_path is not None and failures:
        spilling = partial(spill_unsettled, spill_path, workers, failures, database)
        errors += await run_to_end(spilling)
    raise_errors([*body_errors, *errors], failures)


async def _wait_for_all(workers: Sequence[Worker]) -> None:
    for worker in workers:
        await worker.ended.wait()


def _give_up(workers: Sequence[Worker]) -> None:
    for worker in workers:
        worker.give_up()


@trio.lowlevel.enable_ki_protection
async def run_buffers(
    store: Store,
    *tables: Table[Any],
    options: BufferOptions | None = None,
    overrides: Mapping[str, BufferOptions] | None = None,
    spill: str | os.PathLike[str] | None = None,
    meter_provider: MeterProvider | None = None,
    tracer_provider: TracerProvider | None = None,
    task_status: trio.TaskStatus[Buffers] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run `open_buffers` as a task: `buffers = await nursery.start(run_buffers, store, table)`.

    The task runs until it is cancelled or a buffer fails. Then it drains, and ends as
    `open_buffers` does.

    Args:
        store: as for `open_buffers`.
        *tables: as for `open_buffers`.
        options: as for `open_buffers`.
        overrides: as for `open_buffers`.
        spill: as for `open_buffers`.
        meter_provider: as for `open_buffers`.
        tracer_provider: as for `open_buffers`.
        task_status: receives the buffers once they accept entries.

    Raises:
        Exception: as `open_buffers`.
    """
    async with open_buffers(
        store,
        *tables,
        options=options,
        overrides=overrides,
        spill=spill,
        meter_provider=meter_provider,
        tracer_provider=tracer_provider,
    ) as buffers:
        task_status.started(buffers)
        await trio.sleep_forever()


@trio.lowlevel.enable_ki_protection
async def _run(worker: Worker, body: trio.CancelScope) -> None:
    await worker.run()
    if worker.failure is not None:
        body.cancel()


def _make_workers(
    store: Store,
    tables: Sequence[Table[Any]],
    options: BufferOptions,
    overrides: Mapping[str, BufferOptions],
    observe: Observe,
) -> list[Worker]:
    if not isinstance(overrides, Mapping):
        raise TypeError(
            f"overrides must be a mapping from table names to forebay.BufferOptions, "
            f"not {overrides!r}"
        )
    for argument, given in (("options", options), *overrides.items()):
        if not isinstance(given, BufferOptions):
            raise TypeError(
                f"{argument} must be a forebay.BufferOptions, not {given!r}; "
                f"`BufferOptions().override(…)` and `Settings` convert a mapping to one"
            )
    if not tables:
        raise ValueError("open_buffers was called without a table; pass at least one")
    names = [table.name for table in tables]
    if len(set(map(fold_case, names))) < len(names):
        raise ValueError(
            f"duplicate table name in {names} (SQLite ignores case); pass each table once"
        )
    if unknown := set(overrides) - set(names):
        raise OptionsError(
            f"overrides has options for {sorted(unknown)}, but open_buffers was called with the "
            f"tables {names}; correct the name, or pass that table too"
        )
    return [Worker(table, store, overrides.get(table.name, options), observe) for table in tables]
