"""Loads inputs into a table: looks at the first rows, opens the table, feeds its buffer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import trio

import forebay
from forebay.cli._errors import InputError, LoadError
from forebay.cli._load.convert import Converter
from forebay.cli._load.detect import detect, json_types
from forebay.cli._load.feed import Feed, Rejects
from forebay.cli._load.plan import plan_table
from forebay.cli._load.progress import Display, State
from forebay.cli._load.readers import Chunk, Reader
from forebay.cli._load.reading import SAMPLE_PAUSE, Item, first_items, read_ahead
from forebay.cli._load.sources import Format, name_of, size_of
from forebay.cli._load.telemetry import telemetry_as_configured
from forebay.cli._output import printable
from forebay.cli._signals import HANDLED, Signals


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for; each field is the command's argument or option of that name."""

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


@dataclass(slots=True)
class Report:
    """What became of a load.

    Attributes:
        statistics: the buffer's at its end; None where the load did not get so far.
        rejected: rows that are not in the table, since they could not be read or do not fit it.
        seconds: how long it took.
        failures: what kept it from its end.
        signal_code: the exit code that a signal asks for; None where none came.
    """

    statistics: forebay.BufferStatistics | None = None
    rejected: int = 0
    seconds: float = 0.0
    failures: list[Exception] = field(default_factory=list[Exception])
    signal_code: int | None = None

    @property
    def exit_code(self) -> int:
        """What the command exits with."""
        if self.signal_code is not None:
            return self.signal_code
        if self.failures:
            return 2
        return 1 if self.rejected else 0


async def load(request: Request, display: Display, tell: Callable[[Report], None]) -> Report:
    """Load the inputs to their end, or until a signal comes.

    What is wrong with the inputs or the database is not raised, but told by the report. The rows
    accepted before are in the table all the same, unless the report's failures name them.

    Args:
        request: what to load, and where.
        display: shows how far it has come.
        tell: is given the report before the last export of telemetry, which may take its time:
            nobody should have to wait for that, or end it, without knowing how the load went.
    """
    async with telemetry_as_configured("forebay load", display.warn):
        report = await _Load(request, display).run()
        tell(report)
        return report


class _Load:
    def __init__(self, request: Request, display: Display) -> None:
        self._request = request
        self._table = printable(request.table)
        self._database = printable(request.database)
        self._display = display
        self._begun = trio.current_time()
        self._work = trio.CancelScope()
        self._signals = Signals(self._work, self._on_signal)
        self._reader = Reader(request.files, request.format)
        self._rejects = Rejects(display)
        self._feed: Feed | None = None
        self._opening = math.inf
        """When the database began to be opened."""

    async def run(self) -> Report:
        report = Report()
        # Taken before there are tasks, so that no signal ends one of them.
        with trio.open_signal_receiver(*HANDLED) as received:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._signals.watch, received)
                self._display.tell(f"reading {_listed(self._request.files)}")
                nursery.start_soon(self._show)
                send, items = trio.open_memory_channel[Item](2)
                nursery.start_soon(read_ahead, self._reader, send)
                try:
                    with self._work:
                        await self._run(items)
                except* (LoadError, forebay.ForebayError, OSError) as group:
                    report.failures.extend(_leaves(group))
                nursery.cancel_scope.cancel()
        report.rejected = self._rejects.count
        if self._feed is not None:
            report.statistics = self._feed.buffer.statistics()
            report.rejected += report.statistics.dead_lettered
            self._tell_dead_letters(report.statistics.dead_lettered)
        report.seconds = trio.current_time() - self._begun
        report.signal_code = self._signals.exit_code
        return report

    async def _run(self, items: trio.MemoryReceiveChannel[Item]) -> None:
        request = self._request
        sample = await first_items(items, pause=self._pause())
        chunks = [item for item in sample if isinstance(item, Chunk)]
        if not any(chunk.rows for chunk in chunks):
            # No rows tell no types: a table made here would hold later numbers as text.
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
            rejects = self._rejects if request.skip_malformed else None
            converter = self._reader.converter = Converter(plan.columns, request.nulls)
            self._feed = Feed(buffers[plan.table], converter, rejects)
            self._display.tell(f"loading into table {self._table} of {self._database}")
            failure = await _feed_all(self._feed, sample, items)
        if failure is not None:
            raise failure

    def _pause(self) -> float:
        """How long a sample waits for more rows: a file has an end, a pipe may never have one."""
        endless = any(size_of(path) is None for path in self._request.files)
        return SAMPLE_PAUSE if endless else math.inf

    def _end_without_rows(self, sample: Sequence[Item]) -> None:
        """End with what is wrong with the input, or with nothing where it is empty."""
        for item in sample:
            if isinstance(item, InputError):
                raise item
            for error in item.errors:
                if not self._request.skip_malformed:
                    raise error
                self._rejects.add(error)

    async def _show(self) -> None:
        while True:
            if self._feed is not None:
                self._display.show(self._state(self._feed))
            elif trio.current_time() > self._opening + _SOON:
                self._opening = math.inf
                self._display.warn(
                    f"waiting for {self._database} to open: another program may have it locked"
                )
            await trio.sleep(self._display.interval)

    def _state(self, feed: Feed) -> State:
        statistics = feed.buffer.statistics()
        return State(
            read=statistics.accepted + self._rejects.count,
            pending=statistics.pending,
            position=feed.position,
            seconds=trio.current_time() - self._begun,
            obstacle=statistics.last_error,
        )

    def _tell_dead_letters(self, count: int) -> None:
        if count:
            self._display.warn(
                f"{count:,} rows were refused by table {self._table}; they and the "
                f"reasons are in table forebay_dead_letters of {self._database}"
            )

    def _on_signal(self, name: str) -> None:
        self._display.tell(
            f"{name}: no more is read, and the rows accepted so far are being committed "
            f"(one more signal gives up on them)"
        )


def _listed(files: Sequence[str]) -> str:
    names = [name_of(path) for path in files]
    if len(names) > 4:
        names[3:] = [f"{len(names) - 3} more"]
    return ", ".join(names)


_SOON = 1.0
"""Seconds in which a database opens, unless somebody has it locked."""

_HINT = "; --no-detect-types loads every column as text"


async def _feed_all(
    feed: Feed, sample: Sequence[Item], items: trio.MemoryReceiveChannel[Item]
) -> LoadError | None:
    """Feed all that comes; return what ends it too early."""
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
    """The columns of a table and their declared types; none where there is no such table."""
    if not await trio.Path(database).exists():
        return {}
    async with forebay.open_sqlite(database) as store:
        rows = await store.fetch_all("SELECT name, type FROM pragma_table_info(?)", (table,))
    return dict(rows)


def _leaves(error: Exception) -> Iterator[Exception]:
    """The single errors in a group."""
    if isinstance(error, ExceptionGroup):
        for part in cast("ExceptionGroup[Exception]", error).exceptions:
            yield from _leaves(part)
    else:
        yield error
