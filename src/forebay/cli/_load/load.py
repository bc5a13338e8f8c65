"""Load inputs into a table: detect its columns, open the database, feed the buffer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Any, cast

import trio

import forebay
from forebay._errors import format_count
from forebay.cli._errors import LoadError
from forebay.cli._load.advice import find_advice
from forebay.cli._load.database import DatabaseState, check_table_in, look_at
from forebay.cli._load.feed import UsableRows, to_usable, usable_rows
from forebay.cli._load.kept_inputs import KeptInputs
from forebay.cli._load.late_keys import find_late_keys
from forebay.cli._load.options import LoadRequest
from forebay.cli._load.plan import SAMPLE_ROWS, Plan, sample_size
from forebay.cli._load.preview import preview
from forebay.cli._load.progress import Display
from forebay.cli._load.readers import Chunk, Reader
from forebay.cli._load.reading import Sample, open_items, read_sample
from forebay.cli._load.rejects import RejectedRows, open_rejects
from forebay.cli._load.report import LoadReport
from forebay.cli._load.sampled import (
    detect_columns,
    has_header_alone,
    is_json,
    new_converter,
    plan_from_sample,
    reject_all,
)
from forebay.cli._load.sources import open_file, source_name, source_size
from forebay.cli._load.status import Status
from forebay.cli._load.telemetry import telemetry_as_configured
from forebay.cli._load.writing import TableWriter
from forebay.cli._output import printable
from forebay.cli._signals import HANDLED, Signals


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
        try:
            with open_rejects(request.rejects) as file, KeptInputs() as inputs:
                rejected = RejectedRows(display, allowed=request.skip_malformed, file=file)
                report = await _Load(request, display, rejected, inputs).run()
        except OSError as error:  # the file of the rejected rows
            report = LoadReport(request.table.name, request.database, failures=[error])
        on_end(report)
        return report


class _Load:
    def __init__(
        self, request: LoadRequest, display: Display, rejected: RejectedRows, inputs: KeptInputs
    ) -> None:
        self._request = request
        self._display = display
        self._rejected = rejected
        self._status = Status(display, rejected)
        self._table = printable(request.table.name)
        self._database = printable(request.database)
        self._inputs = inputs if request.table.alter else None
        open_input = open_file if self._inputs is None else self._inputs.open
        self._reader = Reader(request.files, request.input, open_input)
        self._sample = Sample()
        self._report = LoadReport(request.table.name, request.database)
        self._writer = TableWriter(request, display, rejected, self._status)
        self._work = trio.CancelScope()
        self._sampling: trio.CancelScope | None = None
        self._signals = Signals(self._on_first_signal, self._on_second_signal)

    async def run(self) -> LoadReport:
        report = self._report
        # The receiver comes first: without it, a signal would cut the tasks short.
        with trio.open_signal_receiver(*HANDLED) as received:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._signals.watch, received)
                self._display.note(f"reading {_list(self._request.files)}")
                nursery.start_soon(self._status.show)
                try:
                    with self._work:
                        await self._run()
                except* (LoadError, forebay.ForebayError, OSError) as group:
                    report.failures.extend(_leaf_errors(group))
                nursery.cancel_scope.cancel()
        report.rejected = self._rejected.count
        report.statistics = self._writer.statistics
        if report.statistics is not None:
            report.rejected += report.statistics.dead_lettered
            self._describe_refused(report.statistics.dead_lettered)
        report.rejects = self._rejected.first
        report.seconds = self._status.seconds
        report.signal_code = self._signals.exit_code
        return report

    async def _run(self) -> None:
        request = self._request
        self._status.wait_for(self._writer.describe_opening)
        before = await look_at(request.database, request.table.name)
        self._status.wait_for(None)
        await self._read_sample(before)
        if not self._sample.rows and not has_header_alone(self._sample):
            reject_all(self._sample, self._rejected)
            return
        for advice in find_advice(self._sample, request.nulls):
            self._display.warn(advice)
        plan = await self._plan(before)
        if before.columns and not request.table.alter:
            await check_table_in(request.database, plan.table)
        if request.dry_run:
            self._preview(plan, before)
            return
        if before.has_rows and not (request.table.key or request.table.truncate):
            self._display.note(
                f"table {self._table} has rows already; without --key these rows are added to "
                f"them, also if they are the same; --key merges rows of the same key, and "
                f"--truncate deletes the old rows first"
            )
        self._reader.converter = converter = new_converter(request, plan)
        read_on = self._signals.first is None
        async with (
            open_items(self._reader, self._sample, read_on=read_on) as items,
            aclosing(usable_rows(items, converter, self._rejected)) as usable,
        ):
            first = await anext(usable, None)
            if first is None and not self._sample.rows and not self._rejected.count:
                first = UsableRows(())  # the inputs are a header alone
            elif first is None or not first.rows:
                if first is not None and first.failure is not None:
                    raise first.failure
                return
            keeps_empty_table = False
            try:
                failure = await self._writer.write(plan.table, first, usable)
                keeps_empty_table = not first.rows  # a header alone creates an empty table
            finally:
                if not keeps_empty_table:
                    await self._writer.restore(before)
        if failure is not None:
            raise failure

    async def _read_sample(self, before: DatabaseState) -> None:
        """Read the rows by which types are detected; the first signal ends the reading only."""
        request = self._request
        if any(source_size(path) is None for path in request.files):
            self._status.wait_for(self._sampling_rows)

        def size(first: Chunk) -> int:
            return sample_size(
                first.header,
                before.columns,
                key=request.table.key,
                types=request.table.types,
                detect_types=request.detect_types,
            )

        with trio.CancelScope() as self._sampling:
            await read_sample(self._reader, self._sample, size)
        self._sampling = None

    async def _plan(self, before: DatabaseState) -> Plan:
        request, sample = self._request, self._sample
        found = detect_columns(request, sample)
        if self._inputs is not None:
            if is_json(sample) and not sample.ended:
                self._status.wait_for(self._finding_keys)
                with trio.CancelScope() as self._sampling:
                    known = found.keys() | before.columns.keys()
                    reader = Reader(request.files, request.input, self._inputs.open)
                    found |= await find_late_keys(reader, known, request.nulls)
                self._sampling = None
                self._status.wait_for(None)
            self._inputs.stop_keeping()
        return plan_from_sample(request, sample, found, before)

    def _preview(self, plan: Plan, before: DatabaseState) -> None:
        """Convert the rows of the sample, and show what the load would do."""
        converter = new_converter(self._request, plan)
        rows: list[tuple[Any, ...]] = []
        for item in self._sample.items:
            usable = to_usable(item, converter, self._rejected)
            rows += usable.rows
            if usable.failure is not None:
                raise usable.failure
        self._report.preview = preview(plan, self._request.table, before, rows)

    def _sampling_rows(self) -> str:
        return (
            f"{format_count(self._sample.rows, 'row')} read; waiting for {SAMPLE_ROWS:,} rows or "
            f"the end of the input, to detect the types of the columns"
        )

    def _finding_keys(self) -> str:
        return "reading the inputs to their end, to find the keys of all objects for --alter"

    def _describe_refused(self, count: int) -> None:
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
        if self._writer.begun:
            self._writer.give_up()
        else:
            self._work.cancel()


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
