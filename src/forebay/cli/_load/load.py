"""Load inputs into a table: detect its columns, open the database, feed the buffer."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

import trio

import forebay
from forebay._errors import format_count
from forebay.cli._errors import InputError, LoadError
from forebay.cli._load.convert import Converter
from forebay.cli._load.csv_rows import MISSING_CELL
from forebay.cli._load.database import DatabaseState, check_table_in, look_at, restore
from forebay.cli._load.detect import detect, json_types
from forebay.cli._load.feed import RejectedRows, UsableRows, usable_rows
from forebay.cli._load.options import InputOptions
from forebay.cli._load.plan import SAMPLE_ROWS, Plan, plan_table, sample_size
from forebay.cli._load.progress import Display, LoadState
from forebay.cli._load.readers import Chunk, Reader
from forebay.cli._load.reading import Sample, open_items, read_sample
from forebay.cli._load.report import LoadReport
from forebay.cli._load.sources import source_name, source_size
from forebay.cli._load.telemetry import telemetry_as_configured
from forebay.cli._output import printable
from forebay.cli._signals import HANDLED, Signals

_SOON = 1.0
"""Seconds after which the display shows what the load waits for."""

_FLUSH_CHARACTERS = 64 * 1024 * 1024
"""The load flushes the buffer when it has rows of so many characters, to bound their memory.

The buffer's option `capacity_bytes` would do the same, but measures every row.
"""

_RESTORE_TIMEOUT = 10.0
"""Seconds that restoring the database may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRequest:
    """What to load, and how. Each field is the argument or option of that name."""

    files: Sequence[str]
    input: InputOptions
    database: str
    table: str
    key: Sequence[str]
    merge: forebay.Merge
    types: Mapping[str, str]
    nulls: frozenset[str]
    detect_types: bool
    keep_misfits: bool
    skip_malformed: bool
    options: forebay.BufferOptions


async def load(
    request: LoadRequest, display: Display, on_end: Callable[[LoadReport], None]
) -> LoadReport:
    """Load the inputs to their end, or until a signal arrives.

    Errors of the inputs and of the database are not raised: they are the report's failures. The
    rows accepted before an error are in the table, unless a failure names them.

    Args:
        request: what to load, and how.
        display: shows the progress.
        on_end: called with the report before the last export of telemetry, which may take long.
    """
    async with telemetry_as_configured("forebay load", display.warn):
        report = await _Load(request, display).run()
        on_end(report)
        return report


class _Load:
    def __init__(self, request: LoadRequest, display: Display) -> None:
        self._request = request
        self._display = display
        self._table = printable(request.table)
        self._database = printable(request.database)
        self._begun = trio.current_time()
        self._reader = Reader(request.files, request.input)
        self._sample = Sample()
        self._rejected = RejectedRows(display, allowed=request.skip_malformed)
        self._buffers: forebay.Buffers | None = None
        self._buffer: forebay.Buffer[tuple[Any, ...]] | None = None
        self._position = 0
        self._work = trio.CancelScope()
        self._sampling: trio.CancelScope | None = None
        self._signals = Signals(self._on_first_signal, self._on_second_signal)
        self._waits_for: Callable[[], str] | None = None
        self._waits_since = math.inf

    async def run(self) -> LoadReport:
        report = LoadReport()
        # The receiver comes first: without it, a signal would cut the tasks short.
        with trio.open_signal_receiver(*HANDLED) as received:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._signals.watch, received)
                self._display.note(f"reading {_list(self._request.files)}")
                nursery.start_soon(self._show)
                try:
                    with self._work:
                        await self._run()
                except* (LoadError, forebay.ForebayError, OSError) as group:
                    report.failures.extend(_leaf_errors(group))
                nursery.cancel_scope.cancel()
        report.rejected = self._rejected.count
        if self._buffer is not None:
            report.statistics = self._buffer.statistics()
            report.rejected += report.statistics.dead_lettered
            self._warn_of_dead_letters(report.statistics.dead_lettered)
        report.seconds = trio.current_time() - self._begun
        report.signal_code = self._signals.exit_code
        return report

    async def _run(self) -> None:
        request = self._request
        self._wait_for(self._opening)
        before = await look_at(request.database, request.table)
        self._waits_for = None
        await self._read_sample(before)
        if not self._sample.rows:
            # A table created without rows would have columns of TEXT for later numbers.
            self._end_without_rows()
            return
        plan = self._plan(before)
        if before.columns:
            await check_table_in(request.database, plan.table)
        nulls = request.nulls
        if request.input.pad_short_rows:
            nulls |= {MISSING_CELL}
        self._reader.converter = converter = Converter(plan.columns, nulls)
        read_on = self._signals.first is None
        async with (
            open_items(self._reader, self._sample, read_on=read_on) as items,
            aclosing(usable_rows(items, converter, self._rejected)) as usable,
        ):
            first = await anext(usable, None)
            if first is not None and first.rows:
                try:
                    failure = await self._write(plan.table, first, usable)
                finally:
                    await self._restore(before)
            else:
                failure = None if first is None else first.failure
        if failure is not None:
            raise failure

    async def _read_sample(self, before: DatabaseState) -> None:
        """Read the rows by which types are detected; the first signal ends the reading only."""
        request = self._request
        if any(source_size(path) is None for path in request.files):
            self._wait_for(self._sampling_rows)

        def size(first: Chunk) -> int:
            return sample_size(
                first.header,
                before.columns,
                key=request.key,
                types=request.types,
                detect_types=request.detect_types,
            )

        with trio.CancelScope() as self._sampling:
            await read_sample(self._reader, self._sample, size)
        self._sampling = None

    def _plan(self, before: DatabaseState) -> Plan:
        request = self._request
        chunks = self._sample.detected
        header = chunks[0].header
        return plan_table(
            request.table,
            detect(chunks, request.nulls | {MISSING_CELL}, types=request.detect_types),
            key=request.key,
            merge=request.merge,
            existing=before.columns,
            types=request.types,
            keep_misfits=request.keep_misfits,
            json=json_types(chunks, request.nulls) if header is None else None,
        )

    async def _write(
        self,
        table: forebay.Table[tuple[Any, ...]],
        first: UsableRows,
        more: AsyncIterator[UsableRows],
    ) -> LoadError | None:
        """Open the database and enqueue the rows; return the error that ends the load early."""
        request = self._request
        self._wait_for(self._opening)
        async with (
            forebay.open_sqlite(request.database, create=[table]) as store,
            forebay.open_buffers(store, table, options=request.options) as self._buffers,
        ):
            self._buffer = buffer = self._buffers[table]
            self._waits_for = None
            self._display.note(f"loading into table {self._table} of {self._database}")
            rows = first
            unflushed = 0
            while True:
                await buffer.enqueue_many(rows.rows)
                self._position = rows.position
                unflushed += rows.characters
                if unflushed > _FLUSH_CHARACTERS:
                    await buffer.flush()
                    unflushed = 0
                following = None if rows.failure is not None else await anext(more, None)
                if following is None:
                    return rows.failure
                rows = following

    async def _restore(self, before: DatabaseState) -> None:
        """Undo the changes of the database if nothing is committed."""
        if self._buffer is not None:
            statistics = self._buffer.statistics()
            if statistics.committed or statistics.dead_lettered:
                return
        with trio.CancelScope(deadline=trio.current_time() + _RESTORE_TIMEOUT, shield=True):
            try:
                await restore(self._request.database, self._request.table, before)
            except (forebay.StoreError, OSError) as error:
                self._display.warn(
                    f"the database {self._database} may have a new, empty table {self._table}, and "
                    f"be in WAL mode now: {error}"
                )

    def _end_without_rows(self) -> None:
        """Raise the first error of the inputs; do nothing if they are empty."""
        for item in self._sample.items:
            if isinstance(item, InputError):
                raise item
            for error in item.errors:
                self._rejected.add(error)

    def _wait_for(self, message: Callable[[], str]) -> None:
        """Show this message if the display has nothing else to show soon."""
        self._waits_for, self._waits_since = message, trio.current_time()

    def _opening(self) -> str:
        return (
            f"waiting for the database {self._database} to open; another program may have locked it"
        )

    def _sampling_rows(self) -> str:
        return (
            f"{format_count(self._sample.rows, 'row')} read; waiting for {SAMPLE_ROWS:,} rows or "
            f"the end of the input, to detect the types of the columns"
        )

    async def _show(self) -> None:
        while True:
            if self._buffer is not None:
                self._display.show(self._state(self._buffer))
            elif self._waits_for and trio.current_time() > self._waits_since + _SOON:
                self._display.warn(self._waits_for())
                self._waits_for = None
            await trio.sleep(self._display.interval)

    def _state(self, buffer: forebay.Buffer[tuple[Any, ...]]) -> LoadState:
        statistics = buffer.statistics()
        return LoadState(
            read=statistics.accepted + self._rejected.count,
            pending=statistics.pending,
            position=self._position,
            seconds=trio.current_time() - self._begun,
            last_error=statistics.last_error,
        )

    def _warn_of_dead_letters(self, count: int) -> None:
        if count:
            self._display.warn(
                f"table {self._table} refused {format_count(count, 'row')}; to see the rows and "
                f"the errors, run: forebay dead-letters list {self._database}"
            )

    def _on_first_signal(self, name: str) -> None:
        self._display.note(
            f"{name}: reading has ended, and the accepted rows are being committed; a second "
            f"signal gives up on them"
        )
        (self._sampling or self._work).cancel()

    def _on_second_signal(self) -> None:
        if self._buffers is None:
            self._work.cancel()
        else:
            self._buffers.give_up()


def _list(files: Sequence[str]) -> str:
    names = [source_name(path) for path in files]
    if len(names) > 4:
        names[3:] = [f"{len(names) - 3} more"]
    return ", ".join(names)


def _leaf_errors(error: Exception) -> Iterator[Exception]:
    """Yield the errors in a group that are not groups themselves."""
    if isinstance(error, ExceptionGroup):
        for part in cast("ExceptionGroup[Exception]", error).exceptions:
            yield from _leaf_errors(part)
    else:
        yield error
