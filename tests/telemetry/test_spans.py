"""The span of a flush: a root span with links to the spans of its producers."""

from __future__ import annotations

from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

import pytest
import trio
import trio.lowlevel
import trio.testing
from opentelemetry import trace
from opentelemetry.sdk.metrics.export import Histogram
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode
from trio.testing import MockClock

from forebay import (
    BufferOptions,
    FlushError,
    FlushReason,
    RetryPolicy,
    Table,
    open_buffers,
    open_sqlite,
)
from forebay._batching.coalesce import Coalescer
from forebay._buffer.ledger import Ledger
from forebay._telemetry.otel import observer_factory
from forebay.stores import Batch, BatchError, FailureKind, Outcome
from forebay.testing import MemoryStore
from tests.telemetry.conftest import Meters, Spans
from tests.wrapped_attempts import Commit, WrappedMemoryStore


class Pair(NamedTuple):
    k: int
    v: int | None = None


PAIRS = Table(Pair, name="pairs", key="k")


async def test_a_flush_is_a_root_span(spans: Spans, autojump_clock: MockClock) -> None:
    """The span that was current in `open_buffers` is not its parent. Its kind is internal."""
    with spans.tracer.start_as_current_span("a request long gone"):
        async with open_buffers(MemoryStore(), PAIRS, tracer_provider=spans.provider) as buffers:
            await buffers[PAIRS].enqueue_many(Pair(n) for n in range(3))
            await buffers[PAIRS].flush()
    [span] = spans.flushes()
    assert ("flush pairs", SpanKind.INTERNAL) == (span.name, span.kind)
    assert span.parent is None
    assert {
        "buffer": "pairs",
        "operation": "write",
        "flush.reason": "requested",
        "db.system.name": "other_sql",
        "db.collection.name": "pairs",
        "db.operation.name": "BATCH INSERT",
        "db.operation.batch.size": 3,
    } == dict(span.attributes or {})


async def test_a_single_operation_has_no_batch_size(
    spans: Spans, autojump_clock: MockClock
) -> None:
    """The conventions do not allow 1 as `db.operation.batch.size`."""
    async with open_buffers(MemoryStore(), PAIRS, tracer_provider=spans.provider) as buffers:
        await buffers[PAIRS].write(Pair(1))
    [span] = spans.flushes()
    attributes = dict(span.attributes or {})
    assert ("INSERT", None) == (
        attributes["db.operation.name"],
        attributes.get("db.operation.batch.size"),
    )


async def test_a_flush_links_to_its_producers(spans: Spans, autojump_clock: MockClock) -> None:
    """It links once to each span in which an entry was accepted, and to no other span."""
    async with open_buffers(MemoryStore(), PAIRS, tracer_provider=spans.provider) as buffers:
        buffer = buffers[PAIRS]
        producers = []
        for name in "abc":
            with spans.tracer.start_as_current_span(name) as span:
                producers.append(span.get_span_context())
                for n in range(3):
                    await buffer.enqueue(Pair(n))
        with spans.tracer.start_as_current_span("idle"):
            await buffer.flush()
    [flush] = spans.flushes()
    assert producers == [link.context for link in flush.links]


async def test_producers_that_alternate_are_linked_once(
    spans: Spans, autojump_clock: MockClock
) -> None:
    """Two tasks that enqueue ten rows each, in turn, make two links."""

    async def produce(buffer: object, name: str) -> None:
        with spans.tracer.start_as_current_span(name):
            for n in range(10):
                await buffers[PAIRS].enqueue(Pair(n))
                await trio.lowlevel.checkpoint()

    async with open_buffers(MemoryStore(), PAIRS, tracer_provider=spans.provider) as buffers:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(produce, buffers[PAIRS], "a")
            nursery.start_soon(produce, buffers[PAIRS], "b")
        await buffers[PAIRS].flush()
    [flush] = spans.flushes()
    assert 2 == len(flush.links)


async def test_there_are_at_most_128_links(autojump_clock: MockClock) -> None:
    """Of 130 producers 128 are linked; an attribute has the number of the others."""
    spans = Spans(SpanLimits(max_links=1000))
    async with open_buffers(MemoryStore(), PAIRS, tracer_provider=spans.provider) as buffers:
        for n in range(130):
            with spans.tracer.start_as_current_span("producer"):
                buffers[PAIRS].enqueue_nowait(Pair(n))
        await buffers[PAIRS].flush()
    [flush] = spans.flushes()
    assert (128, 2) == (len(flush.links), (flush.attributes or {})["forebay.links.omitted"])


async def test_a_producer_is_linked_by_the_flush_of_its_entries(
    spans: Spans, autojump_clock: MockClock
) -> None:
    """A producer whose entries are in two batches is linked by both flushes."""
    store = MemoryStore()
    store.stop()
    options = BufferOptions(batch_size=4)
    producers = []
    async with (
        open_buffers(store, PAIRS, options=options, tracer_provider=spans.provider) as buffers,
        trio.open_nursery() as nursery,
    ):
        buffers[PAIRS].enqueue_nowait(Pair(0))
        nursery.start_soon(buffers[PAIRS].flush)
        await trio.testing.wait_all_tasks_blocked()
        for n, name in enumerate("abc"):
            with spans.tracer.start_as_current_span(name) as span:
                await buffers[PAIRS].enqueue_many(Pair(10 * n + i) for i in range(1, 4))
            producers.append(span.get_span_context())
        store.resume()
        await buffers[PAIRS].flush()
    assert [1, 4, 4, 1] == [len(batch) for batch in store.batches]
    linked = [[link.context for link in flush.links] for flush in spans.flushes()]
    assert [[], producers[:2], producers[1:], producers[2:]] == linked


async def test_producers_on_both_sides_of_a_border_are_linked_once(
    spans: Spans, autojump_clock: MockClock
) -> None:
    """If a batch ends with the last entry of a producer, the next flush does not link to it."""
    store = MemoryStore()
    producers = []
    options = BufferOptions(batch_size=3)
    async with open_buffers(
        store, PAIRS, options=options, tracer_provider=spans.provider
    ) as buffers:
        for n, name in enumerate("abc"):
            with spans.tracer.start_as_current_span(name) as span:
                await buffers[PAIRS].enqueue_many([Pair(10 * n + i) for i in range(3)])
            producers.append(span.get_span_context())
    assert [3, 3, 3] == [len(batch) for batch in store.batches]
    linked = [[link.context for link in flush.links] for flush in spans.flushes()]
    assert [[producer] for producer in producers] == linked


async def test_spans_that_are_not_recorded_are_not_linked(
    spans: Spans, autojump_clock: MockClock
) -> None:
    """There is no link for a producer whose span is not sampled, or that has no span."""
    unsampled = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    async with open_buffers(MemoryStore(), PAIRS, tracer_provider=spans.provider) as buffers:
        with unsampled.get_tracer("program").start_as_current_span("unsampled"):
            await buffers[PAIRS].enqueue(Pair(1))
        await buffers[PAIRS].enqueue(Pair(2))
        await buffers[PAIRS].flush()
    [flush] = spans.flushes()
    assert () == tuple(flush.links)
    assert "forebay.links.omitted" not in dict(flush.attributes or {})


async def test_the_span_is_current_during_the_commit(
    spans: Spans, autojump_clock: MockClock
) -> None:
    """Outside of a commit it is not the current span."""
    current: list[int] = []

    class Spy(WrappedMemoryStore):
        async def around_commit(self, batch: Batch, commit: Commit) -> Outcome:
            current.append(trace.get_current_span().get_span_context().span_id)
            return await commit()

        async def prepare(self, tables: object) -> None:
            current.append(trace.get_current_span().get_span_context().span_id)

    async with open_buffers(Spy(), PAIRS, tracer_provider=spans.provider) as buffers:
        await buffers[PAIRS].write(Pair(1))
        await buffers[PAIRS].write(Pair(2))
    flushed = [span.context.span_id for span in spans.flushes() if span.context is not None]
    assert [0, *flushed] == current
    assert 2 == len(set(flushed))


async def test_a_failed_flush_is_an_error(spans: Spans, autojump_clock: MockClock) -> None:
    """Its `error.type` is the database's code, and each retry is an event."""
    error = BatchError("scripted", kind=FailureKind.TRANSIENT, code="SQLITE_BUSY")
    store = MemoryStore()
    store.fail_next(error, times=3)
    options = BufferOptions(retry=RetryPolicy(max_attempts=3))
    with pytest.raises(FlushError):
        async with open_buffers(
            store, PAIRS, options=options, tracer_provider=spans.provider
        ) as buffers:
            await buffers[PAIRS].enqueue(Pair(1))
    [span] = spans.flushes()
    assert StatusCode.ERROR is span.status.status_code
    assert "SQLITE_BUSY" == (span.attributes or {})["error.type"]
    assert [("retry", {"error.type": "SQLITE_BUSY"})] * 2 == [
        (event.name, dict(event.attributes or {})) for event in span.events
    ]


async def test_an_exception_of_the_store_is_named_by_its_type(
    spans: Spans, autojump_clock: MockClock
) -> None:
    """The exception is not a `BatchError`, so it has no code."""
    store = MemoryStore()
    store.fail_next(ZeroDivisionError("a fault"))
    with pytest.raises(FlushError):
        async with open_buffers(store, PAIRS, tracer_provider=spans.provider) as buffers:
            await buffers[PAIRS].enqueue(Pair(1))
    [span] = spans.flushes()
    assert "ZeroDivisionError" == (span.attributes or {})["error.type"]


async def test_the_histograms_have_the_span_as_their_exemplar(
    meters: Meters, spans: Spans, autojump_clock: MockClock
) -> None:
    """Durations and size are recorded while the span of the flush is current."""
    async with open_buffers(
        MemoryStore(), PAIRS, meter_provider=meters.provider, tracer_provider=spans.provider
    ) as buffers:
        await buffers[PAIRS].write(Pair(1))
    [span] = spans.flushes()
    assert span.context is not None
    exemplars = {
        name: [(e.trace_id, e.span_id) for e in metric.data.data_points[0].exemplars]
        for name, metric in meters.all().items()
        if isinstance(metric.data, Histogram)
    }
    assert 3 == len(exemplars)
    assert [[(span.context.trace_id, span.context.span_id)]] * 3 == list(exemplars.values())


async def test_the_writers_thread_is_inside_the_span(spans: Spans, tmp_path: Path) -> None:
    """The flush's span is current while SQLite executes the batch, in the writer's thread."""
    current: list[int] = []

    def spy(sql: str) -> None:
        if sql.startswith('INSERT INTO main."pairs"'):
            current.append(trace.get_current_span().get_span_context().span_id)

    async with (
        open_sqlite(tmp_path / "a.db", create=[PAIRS]) as store,
        open_buffers(store, PAIRS, tracer_provider=spans.provider) as buffers,
    ):
        await store.run(lambda raw: raw.set_trace_callback(spy))
        await buffers[PAIRS].write(Pair(1))
    [span] = spans.flushes()
    assert span.context is not None
    assert [span.context.span_id] == current


async def test_a_worker_does_not_inherit_the_openers_context(autojump_clock: MockClock) -> None:
    """A context variable that was set before `open_buffers` has its default in the worker."""
    request = ContextVar("request", default="none")
    seen: list[str] = []

    class Spy(WrappedMemoryStore):
        async def around_commit(self, batch: Batch, commit: Commit) -> Outcome:
            seen.append(request.get())
            return await commit()

    request.set("a request long gone")
    async with open_buffers(Spy(), PAIRS) as buffers:
        await buffers[PAIRS].write(Pair(1))
    assert ["none"] == seen


async def test_a_flush_restores_the_context(spans: Spans) -> None:
    """Its span is a root span although another is current, which is current again afterwards."""
    observe = observer_factory(MemoryStore(), None, spans.provider)
    coalescer = Coalescer(PAIRS)
    coalescer.add([(1, 2)], only_rows=True)
    batch = coalescer.take(FlushReason.DRAIN)
    with spans.tracer.start_as_current_span("outside") as outside:
        with observe("pairs", Ledger("pairs"), 10).flush(batch):
            assert trace.get_current_span() is not outside
        assert trace.get_current_span() is outside
    [span] = spans.flushes()
    assert span.parent is None
