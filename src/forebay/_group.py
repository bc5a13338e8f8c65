"""`open_buffers`: one nursery, one worker task a table, and the drain that ends them."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from functools import partial
from typing import Any, TypeVar

import trio

from forebay._buffer.buffer import Buffer, BufferStatistics
from forebay._buffer.observer import Observe
from forebay._buffer.worker import Worker
from forebay._database import Database
from forebay._errors import DrainError, FlushError, OptionsError
from forebay._options import BufferOptions
from forebay._spill import write_spill
from forebay._table.sqlite_rules import fold_case
from forebay._table.table import Table
from forebay._telemetry.otel import MeterProvider, TracerProvider, telemetry
from forebay.stores import Store

R = TypeVar("R")

_SPILL_TIMEOUT = 10.0
"""Seconds to wait for a thread to write the spill in; once it writes it is waited for."""


class Buffers:
    """The buffers of one `open_buffers` block, by their tables."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers
        self._buffers = {worker.buffer.table: worker.buffer for worker in workers}

    def __getitem__(self, table: Table[R]) -> Buffer[R]:
        """Give the buffer of a table.

        Raises:
            KeyError: the block was not opened with this table.
        """
        try:
            return self._buffers[table]
        except KeyError:
            names = ", ".join(repr(buffer.name) for buffer in self)
            raise KeyError(
                f"{table!r} has no buffer here: ask by the Table that open_buffers was given, not "
                f"by a name or another Table; it was given those of {names}"
            ) from None

    def __iter__(self) -> Iterator[Buffer[Any]]:
        """Give the buffers, in the order of their tables in the call of `open_buffers`."""
        return iter(self._buffers.values())

    def __len__(self) -> int:
        return len(self._buffers)

    def __repr__(self) -> str:
        return f"<forebay.Buffers of {', '.join(repr(buffer.name) for buffer in self)}>"

    async def flush(self) -> None:
        """Flush all buffers now; return once all that was accepted before is settled.

        Cancelled, it only stops waiting.

        Raises:
            trio.BrokenResourceError: the worker of one of them failed first.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        numbers = [worker.channel.request_flush() for worker in self._workers]
        for worker, number in zip(self._workers, numbers, strict=True):
            await worker.ledger.wait_settled(number)

    def give_up(self) -> None:
        """Cut the drain short, now or when it begins: its deadline passes at once.

        For a second signal from an operator who will not wait. A transaction that runs is
        finished still; what is not settled then is named in the `DrainError`.
        """
        for worker in self._workers:
            worker.give_up()

    def statistics(self) -> dict[str, BufferStatistics]:
        """Tell the state of each buffer now, by the name of its table."""
        return {buffer.name: buffer.statistics() for buffer in self}


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def open_buffers(
    store: Store,
    *tables: Table[Any],
    options: BufferOptions | None = None,
    overrides: Mapping[str, BufferOptions] | None = None,
    spill: str | os.PathLike[str] | None = None,
    meter_provider: MeterProvider | None = None,
    tracer_provider: TracerProvider | None = None,
) -> AsyncGenerator[Buffers, None]:
    """Put a write-behind buffer in front of each table, for the time of an `async with` block.

    Leaving the block, normally, by an exception or by cancellation, drains: the buffers accept
    nothing more, what they accepted is flushed, and the block ends. Cancellation does not cut
    the drain short; its deadline does, `BufferOptions.drain_timeout` after it began.

    What leaves the block: the body's exception, as it is, when the drain succeeds. When a
    buffer failed or could not drain in time, `FlushError` or `DrainError`; a buffer that fails
    cancels the body, and the others drain first. Then errors of the body that only say that a
    buffer is broken, or that the body was cancelled, are dropped for the failure itself. Where
    more than one is left, an `ExceptionGroup` of them all.

    A `KeyboardInterrupt` in the body drains like any exception; one during the drain gives up,
    as `Buffers.give_up` does.

    Args:
        store: where the rows go: `open_sqlite` gives one.
        *tables: the tables, at least one, no two of one name.
        options: for all buffers; the defaults where it is None.
        overrides: other options for some of them, by the table's name.
        spill: a file for the entries that a `FlushError` or `DrainError` names, so that they
            outlive the program. It is written only then, for its owner only, and never over
            another: `.1` is appended where the name is taken. It names its database, to which a
            file gets an id for it, in a table of forebay's own. `forebay dead-letters replay`
            and `forebay.dead_letters.import_spill` bring them back. A batch whose COMMIT was
            in doubt may be both there and in the table.
        meter_provider: where OpenTelemetry's metrics go; the global one where it is None.
        tracer_provider: where its spans go; the global one where it is None. Set that one
            before: whether there is one is asked once, here.

    Yields:
        The buffers, by table.

    Raises:
        TypeError: the options or a provider are of another type.
        OptionsError: an override names a table that is not among these.
        ValueError: no tables are given, or two of one name.
        SchemaError: a table is not in the database as it is declared.
        StoreError: the database cannot be read.
        FlushError: a buffer failed; the error names its entries.
        DrainError: the deadline passed; the error names the entries of each table.
    """
    observe = telemetry(store, meter_provider, tracer_provider)
    workers = _workers(
        store,
        tables,
        BufferOptions() if options is None else options,
        {} if overrides is None else overrides,
        observe,
    )
    process = os.getpid()
    await store.prepare(tables)
    database = None
    if spill is not None:
        # Asked now: when there is something to spill, the database may not answer.
        database = await store.identify()
    raised: list[BaseException] = []
    async with trio.open_nursery() as nursery:
        try:
            with trio.CancelScope() as body:
                for worker in workers:
                    worker.observer.opened()
                    # In a fresh context: the span of the request that happens to open the
                    # buffers, say, is not the parent of every flush to come.
                    run = partial(_run, worker, body)
                    name = f"forebay {worker.buffer.name}"
                    Context().run(partial(nursery.start_soon, run, name=name))
                yield Buffers(workers)
        except BaseException as error:  # noqa: BLE001  # raised again after the drain
            raised.append(error)
        # Each worker is shielded by a scope of its own, which has its deadline from here on. This
        # shield is for the wait for them, and ends with them.
        nursery.cancel_scope.shield = True
        for worker in workers:
            worker.close()
        interrupt = await _wait_for_all(workers)
        if interrupt and not any(isinstance(error, KeyboardInterrupt) for error in raised):
            raised.append(interrupt)
    # In a fork of the program what is pending is its parent's, to write and to name.
    stops = _stops(workers) if os.getpid() == process else []
    if spill is not None and stops:
        await _spill(spill, workers, stops, database)
    _raise(raised, stops)


async def _wait_for_all(workers: Sequence[Worker]) -> KeyboardInterrupt | None:
    """Wait until all have ended; give up, and go on waiting, where Ctrl-C is hit meanwhile."""
    interrupt = None
    for worker in workers:
        while not worker.ended.is_set():
            try:
                await worker.ended.wait()
            except KeyboardInterrupt as error:
                interrupt = error
                for each in workers:
                    each.give_up()
    return interrupt


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

    Runs until it is cancelled, then drains, and ends as `open_buffers` does.

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


async def _run(worker: Worker, body: trio.CancelScope) -> None:
    await worker.run()
    if worker.failure is not None:
        body.cancel()


def _workers(
    store: Store,
    tables: Sequence[Table[Any]],
    options: BufferOptions,
    overrides: Mapping[str, BufferOptions],
    observe: Observe,
) -> list[Worker]:
    if not isinstance(overrides, Mapping):
        raise TypeError(
            f"overrides must map tables' names to forebay.BufferOptions, not {overrides!r}"
        )
    for argument, given in (("options", options), *overrides.items()):
        if not isinstance(given, BufferOptions):
            raise TypeError(
                f"{argument} must be a forebay.BufferOptions, not {given!r}; "
                f"`BufferOptions().override(…)` and `Settings` make one of a mapping"
            )
    if not tables:
        raise ValueError("open_buffers needs a table at least")
    names = [table.name for table in tables]
    if len(set(map(fold_case, names))) < len(names):
        raise ValueError(f"tables: two have one name, and a table has one buffer: {names}")
    if unknown := set(overrides) - set(names):
        raise OptionsError(
            f"overrides names {sorted(unknown)}, but the tables are {names}; "
            f"name one of these, or open that table too"
        )
    return [Worker(table, store, overrides.get(table.name, options), observe) for table in tables]


def _stops(workers: Sequence[Worker]) -> list[FlushError | DrainError]:
    """Give the errors of the buffers that stopped with entries unsettled."""
    failures = [worker.failure for worker in workers if worker.failure is not None]
    late = {worker.buffer.name: worker.late for worker in workers if worker.late is not None}
    return [*failures, *([DrainError(late)] if late else [])]


async def _spill(
    path: str | os.PathLike[str],
    workers: Sequence[Worker],
    stops: Sequence[FlushError | DrainError],
    database: Database | None,
) -> None:
    """Write what the buffers did not settle to a file, and tell the errors where it is."""
    unsettled = {
        worker.buffer.table: left.entries
        for worker in workers
        if (left := worker.failure.unsettled if worker.failure else worker.late) is not None
    }
    note = "these entries are in no file: the time for the spill was over"
    with trio.move_on_after(_SPILL_TIMEOUT, shield=True):
        try:
            file = await trio.to_thread.run_sync(
                partial(
                    write_spill,
                    path,
                    unsettled,
                    reason="; ".join(stop.reason for stop in stops),
                    database=database,
                )
            )
        except OSError as error:
            note = f"these entries are in no file: the spill failed, {error!r}"
        else:
            for stop in stops:
                stop.spill = str(file)
            return
    for stop in stops:
        stop.add_note(note)


def _raise(raised: Sequence[BaseException], stops: Sequence[Exception]) -> None:
    """Raise what is to leave the block: see `open_buffers`."""

    def is_consequence(error: BaseException) -> bool:
        return isinstance(error, trio.BrokenResourceError) and error.__cause__ in stops

    def is_cancelled(error: BaseException) -> bool:
        return isinstance(error, trio.Cancelled)

    errors = [*_without(is_consequence, raised), *stops]
    if len(errors) > 1:
        errors = _without(is_cancelled, errors)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise BaseExceptionGroup("the open_buffers block and its buffers failed", errors)


def _without(
    unwanted: Callable[[BaseException], bool], errors: Sequence[BaseException]
) -> list[BaseException]:
    """Give the errors without the unwanted ones, those in groups included."""
    kept: list[BaseException] = []
    for error in errors:
        group = error if isinstance(error, BaseExceptionGroup) else BaseExceptionGroup("", [error])
        dropped, rest = group.split(unwanted)
        if dropped is None:
            kept.append(error)
        elif rest is not None:
            kept.append(rest)
    return kept
