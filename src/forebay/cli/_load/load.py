"""Load inputs into a table: detect its columns, open the database, feed the buffer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import trio

import forebay
from forebay._errors import format_count
from forebay.cli._errors import InputError, LoadError
from forebay.cli._load.convert import Converter
from forebay.cli._load.detect import detect, json_types
from forebay.cli._load.feed import Feed, RejectedRows
from forebay.cli._load.plan import plan_table
from forebay.cli._load.progress import Display, LoadState
from forebay.cli._load.readers import Chunk, Reader
from forebay.cli._load.reading import SAMPLE_PAUSE, Item, first_items, read_ahead
from forebay.cli._load.report import LoadReport
from forebay.cli._load.sources import Format, source_name, source_size
from forebay.cli._load.telemetry import telemetry_as_configured
from forebay.cli._output import printable
from forebay.cli._signals import HANDLED, Signals


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRequest:
    """What to load, and how. Each field is the argument or option of that name."""

    files: Sequence[str]
    database: str
    table: str
    key: Sequence[str]
    merge: forebay.Merge
    format: Format | None
    nulls: frozenset[str]
    detect_types: bool
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
        self._table = printable(request.table)
        self._database = printable(request.database)
        self._display = display
        self._begun = trio.current_time()
        self._work = trio.CancelScope()
        self._signals = Signals(self._work, self._on_signal)
        self._reader = Reader(request.files, request.format)
        self._rejected = RejectedRows(display)
        self._feed: Feed | None = None
        self._opening = math.inf
        """The time at which the load began to open the database."""

    async def run(self) -> LoadReport:
        report = LoadReport()
        # Before the tasks start, since the default action of a signal would end one of them.
        with trio.open_signal_receiver(*HANDLED) as received:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._signals.watch, received)
                self._display.note(f"reading {_list(self._request.files)}")
                nursery.start_soon(self._show)
                send, items = trio.open_memory_channel[Item](2)
                nursery.start_soon(read_ahead, self._reader, send)
                try:
                    with self._work:
                        await self._run(items)
                except* (LoadError, forebay.ForebayError, OSError) as group:
                    report.failures.extend(_leaf_errors(group))
                nursery.cancel_scope.cancel()
        report.rejected = self._rejected.count
        if self._feed is not None:
            report.statistics = self._feed.buffer.statistics()
            report.rejected += report.statistics.dead_lettered
            self._warn_of_dead_letters(report.statistics.dead_lettered)
        report.seconds = trio.current_time() - self._begun
        report.signal_code = self._signals.exit_code
        return report

    async def _run(self, items: trio.MemoryReceiveChannel[Item]) -> None:
        request = self._request
        sample = await first_items(items, pause=self._pause())
        chunks = [item for item in sample if isinstance(item, Chunk)]
        if not any(chunk.rows for chunk in chunks):
            # A table created without rows would have columns of TEXT for later numbers.
            self._end_without_rows(sample)
            return
        self._opening = trio.current_time()
        columns = detect(chunks, request.nulls, types=request.detect_types)
        plan = plan_table(
            request.table,
            columns,
            key=request.key,
            merge=request.merge,
            existing=await _columns_of(request.table, request.database),
            json=json_types(chunks, request.nulls),
            hint=_HINT if chunks[0].header and request.detect_types else "",
        )
        async with (
            forebay.open_sqlite(request.database, create=[plan.table]) as store,
            forebay.open_buffers(store, plan.table, options=request.options) as buffers,
        ):
            self._signals.on_second = buffers.give_up
            rejected = self._rejected if request.skip_malformed else None
            converter = self._reader.converter = Converter(plan.columns, request.nulls)
            self._feed = Feed(buffers[plan.table], converter, rejected)
            self._display.note(f"loading into table {self._table} of {self._database}")
            failure = await _feed_all(self._feed, sample, items)
        if failure is not None:
            raise failure

    def _pause(self) -> float:
        """Return how long the sample waits for more rows, in seconds."""
        endless = any(source_size(path) is None for path in self._request.files)
        return SAMPLE_PAUSE if endless else math.inf

    def _end_without_rows(self, sample: Sequence[Item]) -> None:
        """Raise the first error of the inputs; do nothing if they are empty."""
        for item in sample:
            if isinstance(item, InputError):
                raise item
            for error in item.errors:
                if not self._request.skip_malformed:
                    raise error
                self._rejected.add(error)

    async def _show(self) -> None:
        while True:
            if self._feed is not None:
                self._display.show(self._state(self._feed))
            elif trio.current_time() > self._opening + _SOON:
                self._opening = math.inf
                self._display.warn(
                    f"waiting for the database {self._database} to open; another program may "
                    f"have locked it"
                )
            await trio.sleep(self._display.interval)

    def _state(self, feed: Feed) -> LoadState:
        statistics = feed.buffer.statistics()
        return LoadState(
            read=statistics.accepted + self._rejected.count,
            pending=statistics.pending,
            position=feed.position,
            seconds=trio.current_time() - self._begun,
            last_error=statistics.last_error,
        )

    def _warn_of_dead_letters(self, count: int) -> None:
        if count:
            self._display.warn(
                f"table {self._table} refused {format_count(count, 'row')}; to see the rows and "
                f"the errors, run: forebay dead-letters list {self._database}"
            )

    def _on_signal(self, name: str) -> None:
        self._display.note(
            f"{name}: reading has ended, and the accepted rows are being committed; a second "
            f"signal gives up on them"
        )


def _list(files: Sequence[str]) -> str:
    names = [source_name(path) for path in files]
    if len(names) > 4:
        names[3:] = [f"{len(names) - 3} more"]
    return ", ".join(names)


_SOON = 1.0
"""Seconds in which a database opens, unless another program has locked it."""

_HINT = "; --no-detect-types loads every column as TEXT"


async def _feed_all(
    feed: Feed, sample: Sequence[Item], items: trio.MemoryReceiveChannel[Item]
) -> LoadError | None:
    """Feed all items; return the error that ends the load early, or None."""
    for item in sample:
        failure = await feed.accept(item)
        if failure is not None:
            return failure
    async for item in items:
        failure = await feed.accept(item)
        if failure is not None:
            return failure
    return None


async def _columns_of(table: str, database: str) -> dict[str, str]:
    """Return the columns of a table and their declared types; nothing if there is no table."""
    if not await trio.Path(database).exists():
        return {}
    async with forebay.open_sqlite(database) as store:
        rows = await store.fetch_all("SELECT name, type FROM pragma_table_info(?)", (table,))
    return dict(rows)


def _leaf_errors(error: Exception) -> Iterator[Exception]:
    """Yield the errors in a group that are not groups themselves."""
    if isinstance(error, ExceptionGroup):
        for part in cast("ExceptionGroup[Exception]", error).exceptions:
            yield from _leaf_errors(part)
    else:
        yield error
