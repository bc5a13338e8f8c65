"""What each instrument counts, and its attributes."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import trio
import trio.testing
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import NoOpTracerProvider
from trio.testing import MockClock

import forebay
from forebay import BufferOptions, FlushError, RetryPolicy, Table, open_buffers
from forebay._buffer.observer import unobserved
from forebay._telemetry.instruments import instruments_of
from forebay._telemetry.otel import observer_factory
from forebay.stores import BatchError, FailureKind
from forebay.testing import MemoryStore

if TYPE_CHECKING:
    from tests.telemetry.conftest import Meters, Spans


class Pair(NamedTuple):
    k: int
    v: int | None = None


PAIRS = Table(Pair, name="pairs", key="k", delete_by="v")
OTHERS = Table(Pair, name="others", key="k")


def attrs(**attributes: Any) -> tuple[tuple[str, Any], ...]:
    """Return attributes as `Meters.points` has them. Two underscores stand for a dot."""
    return tuple(sorted((name.replace("__", "."), value) for name, value in attributes.items()))


OF_PAIRS = attrs(buffer="pairs")
WRITES_TO_PAIRS = attrs(buffer="pairs", operation="write")


def failure(kind: FailureKind, code: str) -> BatchError:
    return BatchError("scripted", kind=kind, code=code)


async def test_histograms_have_the_advised_buckets(
    meters: Meters, autojump_clock: MockClock
) -> None:
    """Flush durations have 1 ms to 5 s; database operations have those of the convention."""
    async with open_buffers(MemoryStore(), PAIRS, meter_provider=meters.provider) as buffers:
        await buffers[PAIRS].write(Pair(1))
        [flush] = meters.points("forebay.flush.duration").values()
        [operation] = meters.points("db.client.operation.duration").values()
    assert (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5) == flush.explicit_bounds
    assert (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10) == operation.explicit_bounds


async def test_a_flush_adds_its_rows_and_its_time(
    meters: Meters, autojump_clock: MockClock
) -> None:
    """All three have the buffer and the operation; the duration has the flush reason, too."""
    store = MemoryStore(delay=0.5)
    async with open_buffers(store, PAIRS, meter_provider=meters.provider) as buffers:
        await buffers[PAIRS].enqueue_many(Pair(n) for n in range(3))
        await buffers[PAIRS].flush()
        assert {WRITES_TO_PAIRS: 3} == meters.values("forebay.rows.flushed")
        [(attributes, size)] = meters.points("forebay.flush.size").items()
        assert (WRITES_TO_PAIRS, 1, 3) == (attributes, size.count, size.sum)
        [(attributes, duration)] = meters.points("forebay.flush.duration").items()
    requested = attrs(buffer="pairs", operation="write", flush__reason="requested")
    assert (requested, 1) == (attributes, duration.count)
    assert pytest.approx(0.5) == duration.sum


@pytest.mark.parametrize("reason", ["full", "interval", "requested", "drain"])
async def test_the_duration_has_the_flush_reason(
    reason: str, meters: Meters, autojump_clock: MockClock
) -> None:
    """`flush.reason` has these values."""
    options = BufferOptions(batch_size=2, flush_interval=1.0)
    async with open_buffers(
        MemoryStore(), PAIRS, options=options, meter_provider=meters.provider
    ) as buffers:
        buffers[PAIRS].enqueue_nowait(Pair(1))
        match reason:
            case "full":
                buffers[PAIRS].enqueue_nowait(Pair(2))
                await trio.testing.wait_all_tasks_blocked()
            case "interval":
                await trio.sleep(2)
            case "requested":
                await buffers[PAIRS].flush()
            case "drain":
                pass
            case _:
                raise AssertionError(reason)
    [attributes] = meters.points("forebay.flush.duration")
    assert reason == dict(attributes)["flush.reason"]


@pytest.mark.parametrize(
    ("operation", "rows", "name"),
    [
        ("write", 1, "INSERT"),
        ("write", 2, "BATCH INSERT"),
        ("update", 1, "UPDATE"),
        ("update", 2, "BATCH UPDATE"),
        ("delete", 1, "DELETE"),
        ("delete", 2, "BATCH DELETE"),
        ("delete_by", 1, "DELETE"),
        ("delete_by", 2, "BATCH DELETE"),
    ],
)
async def test_the_names_of_operations(
    operation: str, rows: int, name: str, meters: Meters, autojump_clock: MockClock
) -> None:
    """`operation` has forebay's name, and `db.operation.name` that of the conventions."""
    async with open_buffers(MemoryStore(), PAIRS, meter_provider=meters.provider) as buffers:
        buffer = buffers[PAIRS]
        for number in range(rows):
            match operation:
                case "write":
                    buffer.enqueue_nowait(Pair(number))
                case "update":
                    buffer.enqueue_update_nowait(number, v=1)
                case "delete":
                    buffer.enqueue_delete_nowait(number)
                case _:
                    buffer.enqueue_delete_by_nowait(number)
        await buffer.flush()
        named = attrs(buffer="pairs", operation=operation)
        assert {named: rows} == meters.values("forebay.rows.flushed")
        assert [named] == list(meters.points("forebay.flush.size"))
        timed = attrs(buffer="pairs", operation=operation, flush__reason="requested")
        assert [timed] == list(meters.points("forebay.flush.duration"))
        committed = attrs(
            db__system__name="other_sql", db__collection__name="pairs", db__operation__name=name
        )
        assert [committed] == list(meters.points("db.client.operation.duration"))


async def test_each_operation_is_counted_separately(
    meters: Meters, autojump_clock: MockClock
) -> None:
    """A flush of several operations adds rows to each. It has one duration, that of `mixed`."""
    async with open_buffers(MemoryStore(), PAIRS, meter_provider=meters.provider) as buffers:
        buffer = buffers[PAIRS]
        await buffer.enqueue_many(Pair(n) for n in range(4))
        await buffer.enqueue_update(7, v=1)
        await buffer.enqueue_delete(8)
        await buffer.enqueue_delete(9)
        await buffer.enqueue_delete_by(5)
        await buffer.flush()
        assert {
            attrs(buffer="pairs", operation="write"): 4,
            attrs(buffer="pairs", operation="update"): 1,
            attrs(buffer="pairs", operation="delete"): 2,
            attrs(buffer="pairs", operation="delete_by"): 1,
        } == meters.values("forebay.rows.flushed")
        [attributes] = meters.points("forebay.flush.duration")
        assert "mixed" == dict(attributes)["operation"]
        [attributes] = meters.points("db.client.operation.duration")
        assert "BATCH" == dict(attributes)["db.operation.name"]


async def test_a_failed_flush_adds_no_rows(meters: Meters, autojump_clock: MockClock) -> None:
    """It adds no size either, only a duration with its error."""
    store = MemoryStore()
    store.fail_next(failure(FailureKind.FATAL, "SQLITE_READONLY"))
    with pytest.raises(FlushError):
        async with open_buffers(store, PAIRS, meter_provider=meters.provider) as buffers:
            await buffers[PAIRS].enqueue(Pair(1))
    shown = meters.all()
    assert set() == {"forebay.rows.flushed", "forebay.flush.size"} & set(shown)
    [(attributes, point)] = meters.points("forebay.flush.duration").items()
    assert "SQLITE_READONLY" == dict(attributes)["error.type"]
    assert 1 == point.count
    [attributes] = meters.points("db.client.operation.duration")
    assert ("SQLITE_READONLY", "SQLITE_READONLY") == (
        dict(attributes)["error.type"],
        dict(attributes)["db.response.status_code"],
    )


async def test_an_error_that_is_not_the_databases_has_no_status_code(
    meters: Meters, autojump_clock: MockClock
) -> None:
    """`error.type` is then the type of the exception."""
    error = failure(FailureKind.FATAL, "OverflowError")
    error.__cause__ = OverflowError()
    store = MemoryStore()
    store.fail_next(error)
    with pytest.raises(FlushError):
        async with open_buffers(store, PAIRS, meter_provider=meters.provider) as buffers:
            await buffers[PAIRS].enqueue(Pair(1))
    [attributes] = meters.points("db.client.operation.duration")
    assert "OverflowError" == dict(attributes)["error.type"]
    assert "db.response.status_code" not in dict(attributes)


async def test_a_flush_that_the_drains_deadline_ends_is_a_failure(
    meters: Meters, autojump_clock: MockClock
) -> None:
    """It adds a duration with `trio.Cancelled`, and no rows."""
    store = MemoryStore()
    store.stop()
    with pytest.raises(forebay.DrainError):
        async with open_buffers(store, PAIRS, meter_provider=meters.provider) as buffers:
            await buffers[PAIRS].enqueue(Pair(1))
    [(attributes, point)] = meters.points("forebay.flush.duration").items()
    assert "trio.Cancelled" == dict(attributes)["error.type"]
    assert pytest.approx(30.0) == point.sum
    assert {} == meters.points("forebay.rows.flushed")


async def test_a_retry_counts_once(meters: Meters, autojump_clock: MockClock) -> None:
    """Each retry adds one, with the code of the failure before. The flush is counted once."""
    store = MemoryStore()
    store.fail_next(failure(FailureKind.TRANSIENT, "SQLITE_BUSY"), times=2)
    store.fail_next(failure(FailureKind.TRANSIENT, "SQLITE_FULL"))
    async with open_buffers(store, PAIRS, meter_provider=meters.provider) as buffers:
        await buffers[PAIRS].write(Pair(1))
        assert {
            attrs(buffer="pairs", error__type="SQLITE_BUSY"): 2,
            attrs(buffer="pairs", error__type="SQLITE_FULL"): 1,
        } == meters.values("forebay.flush.retries")
        assert {WRITES_TO_PAIRS: 1} == meters.values("forebay.rows.flushed")
        [(attributes, flush)] = meters.points("forebay.flush.duration").items()
        assert ("error.type" in dict(attributes), flush.count) == (False, 1)
        attempts = meters.points("db.client.operation.duration")
        assert [1, 1, 2] == sorted(point.count for point in attempts.values())


async def test_a_failure_without_a_further_attempt_is_not_a_retry(
    meters: Meters, autojump_clock: MockClock
) -> None:
    """Three attempts make two retries."""
    store = MemoryStore()
    store.fail_next(failure(FailureKind.TRANSIENT, "SQLITE_BUSY"), times=3)
    options = BufferOptions(retry=RetryPolicy(max_attempts=3))
    with pytest.raises(FlushError):
        async with open_buffers(
            store, PAIRS, options=options, meter_provider=meters.provider
        ) as buffers:
            await buffers[PAIRS].enqueue(Pair(1))
    assert 2 == meters.value("forebay.flush.retries")


async def test_a_retry_counts_when_it_begins(
    meters: Meters, spans: Spans, autojump_clock: MockClock
) -> None:
    """A retry that the drain's deadline prevents is not counted, in the statistics neither."""
    store = MemoryStore()
    store.fail_next(failure(FailureKind.TRANSIENT, "SQLITE_BUSY"), times=9)
    options = BufferOptions(drain_timeout=3).override(
        {"retry": {"initial_delay": 2, "max_delay": 2, "jitter": 0}}
    )
    with pytest.raises(forebay.DrainError):
        async with open_buffers(
            store,
            PAIRS,
            options=options,
            meter_provider=meters.provider,
            tracer_provider=spans.provider,
        ) as buffers:
            buffers[PAIRS].enqueue_nowait(Pair(1))
    assert 1 == buffers[PAIRS].statistics().retries
    assert 1 == meters.value("forebay.flush.retries")
    [span] = spans.flushes()
    assert ["retry"] == [event.name for event in span.events]


async def test_a_dead_letter_counts_once(meters: Meters, autojump_clock: MockClock) -> None:
    """A refused entry is counted when its batch is committed, not at each attempt."""
    store = MemoryStore()
    store.refuse(lambda operation: getattr(operation, "row", (0,))[0] < 2)
    store.fail_next(FailureKind.TRANSIENT, times=2)
    async with open_buffers(store, PAIRS, meter_provider=meters.provider) as buffers:
        await buffers[PAIRS].enqueue_many(Pair(n) for n in range(5))
        await buffers[PAIRS].flush()
        assert {OF_PAIRS: 2} == meters.values("forebay.entries.dead_lettered")
        assert {WRITES_TO_PAIRS: 3} == meters.values("forebay.rows.flushed")
        [size] = meters.points("forebay.flush.size").values()
        assert 3 == size.sum


async def test_superseded_entries_are_counted(meters: Meters, autojump_clock: MockClock) -> None:
    """Five writes of one key are five entries accepted, four superseded, and one row."""
    async with open_buffers(MemoryStore(), PAIRS, meter_provider=meters.provider) as buffers:
        await buffers[PAIRS].enqueue_many(Pair(1, n) for n in range(5))
        await buffers[PAIRS].flush()
        assert {OF_PAIRS: 5} == meters.values("forebay.entries.accepted")
        assert {OF_PAIRS: 4} == meters.values("forebay.entries.superseded")
        assert {WRITES_TO_PAIRS: 1} == meters.values("forebay.rows.flushed")


async def test_gauges_show_the_pending_entries(meters: Meters, autojump_clock: MockClock) -> None:
    """Their number, their share of the capacity, and their age include the batch in flight."""
    store = MemoryStore()
    store.stop()
    options = BufferOptions(capacity=40, flush_interval=1.0)
    async with open_buffers(
        store, PAIRS, OTHERS, options=options, meter_provider=meters.provider
    ) as buffers:
        await buffers[PAIRS].enqueue_many(Pair(n) for n in range(4))
        await trio.sleep(6)
        await buffers[PAIRS].enqueue_many(Pair(n) for n in range(6))
        others = attrs(buffer="others")
        assert {OF_PAIRS: 10, others: 0} == meters.values("forebay.queue.size")
        assert {OF_PAIRS: 0.25, others: 0.0} == meters.values("forebay.queue.utilization")
        ages = meters.values("forebay.queue.oldest.age")
        assert {OF_PAIRS: 6.0, others: 0.0} == pytest.approx(ages)
        store.resume()
        await buffers.flush()
        assert {OF_PAIRS: 0, others: 0} == meters.values("forebay.queue.size")
        assert {OF_PAIRS: 0.0, others: 0.0} == meters.values("forebay.queue.oldest.age")


async def test_a_gauge_shows_which_buffers_are_suspended(
    meters: Meters, autojump_clock: MockClock
) -> None:
    """It is 1 while the buffer is suspended, otherwise 0."""
    store = MemoryStore()
    options = BufferOptions(on_failure="suspend")
    others = attrs(buffer="others")
    async with open_buffers(
        store, PAIRS, OTHERS, options=options, meter_provider=meters.provider
    ) as buffers:
        assert {OF_PAIRS: 0, others: 0} == meters.values("forebay.buffer.suspended")
        store.fail_next(FailureKind.FATAL)
        buffers[PAIRS].enqueue_nowait(Pair(1))
        await trio.sleep(1)
        assert {OF_PAIRS: 1, others: 0} == meters.values("forebay.buffer.suspended")
        await buffers[PAIRS].flush()
        assert {OF_PAIRS: 0, others: 0} == meters.values("forebay.buffer.suspended")


async def test_blocks_in_a_row_have_correct_gauges(
    meters: Meters, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    """The gauges show the open block only. The counters are the sum over all blocks."""
    for entries in (2, 3):
        store = MemoryStore()
        async with open_buffers(store, PAIRS, meter_provider=meters.provider) as buffers:
            await buffers[PAIRS].enqueue_many(Pair(n) for n in range(entries))
            assert {OF_PAIRS: entries} == meters.values("forebay.queue.size")
        assert entries == len(store.rows(PAIRS))
        del buffers
        gc.collect()
    assert {OF_PAIRS: 5} == meters.values("forebay.entries.accepted")
    assert [] == caplog.records  # an instrument that is created twice logs a warning


async def test_instruments_live_as_long_as_their_provider(autojump_clock: MockClock) -> None:
    """They are kept while a reader may read them, and released afterwards."""
    provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    async with open_buffers(MemoryStore(), PAIRS, meter_provider=provider):
        instruments = weakref.ref(instruments_of(provider))
    gc.collect()
    assert instruments() is instruments_of(provider)
    provider.shutdown()
    del provider
    gc.collect()
    assert instruments() is None


async def test_open_blocks_with_the_same_table_are_added(
    meters: Meters, autojump_clock: MockClock
) -> None:
    """Sizes and capacities of buffers with one name are added; the age is that of the oldest."""
    store = MemoryStore()
    store.stop()
    async with open_buffers(
        store, PAIRS, options=BufferOptions(capacity=10), meter_provider=meters.provider
    ) as first:
        await first[PAIRS].enqueue_many(Pair(n) for n in range(2))
        await trio.sleep(5)
        async with open_buffers(
            store, PAIRS, options=BufferOptions(capacity=30), meter_provider=meters.provider
        ) as second:
            await second[PAIRS].enqueue_many(Pair(n) for n in range(8))
            assert {OF_PAIRS: 10} == meters.values("forebay.queue.size")
            assert {OF_PAIRS: 0.25} == meters.values("forebay.queue.utilization")
            assert {OF_PAIRS: 5.0} == pytest.approx(meters.values("forebay.queue.oldest.age"))
            store.resume()
    assert {OF_PAIRS: 10} == meters.values("forebay.entries.accepted")


GAUGES = (
    "forebay.queue.size",
    "forebay.queue.utilization",
    "forebay.queue.oldest.age",
    "forebay.buffer.suspended",
)


async def test_a_closed_buffer_has_no_gauges(meters: Meters, autojump_clock: MockClock) -> None:
    """They end with the block, even if the program still refers to the buffer."""
    async with open_buffers(MemoryStore(), PAIRS, meter_provider=meters.provider) as buffers:
        await buffers[PAIRS].enqueue(Pair(1))
    assert set() == {*GAUGES, "forebay.wal.size"} & set(meters.all())
    assert 1 == buffers[PAIRS].statistics().accepted


async def test_a_closed_buffer_keeps_its_counters(
    meters: Meters, autojump_clock: MockClock
) -> None:
    """The last export contains what the drain flushed, and a counter never falls."""
    async with open_buffers(MemoryStore(), PAIRS, meter_provider=meters.provider) as buffers:
        await buffers[PAIRS].enqueue_many(Pair(1, n) for n in range(3))
    assert {OF_PAIRS: 3} == meters.values("forebay.entries.accepted")
    assert {OF_PAIRS: 2} == meters.values("forebay.entries.superseded")


async def test_with_no_op_providers_there_is_no_observer() -> None:
    """The data path does not call telemetry at all."""
    observe = observer_factory(MemoryStore(), NoOpMeterProvider(), NoOpTracerProvider())
    assert unobserved is observe


async def test_statistics_have_the_quantiles_of_flush_durations(autojump_clock: MockClock) -> None:
    """`flush_p50` and `flush_p99` are those of the last committed flushes, in seconds."""
    store = MemoryStore()
    async with open_buffers(store, PAIRS) as buffers:
        assert (0.0, 0.0) == _quantiles(buffers[PAIRS])
        for delay in (0.1, 0.2, 0.3):
            store.delay = delay
            await buffers[PAIRS].write(Pair(1))
        assert (0.2, 0.3) == pytest.approx(_quantiles(buffers[PAIRS]))


def _quantiles(buffer: forebay.Buffer[Pair]) -> tuple[float, float]:
    statistics = buffer.statistics()
    return statistics.flush_p50, statistics.flush_p99


@pytest.mark.parametrize("argument", ["meter_provider", "tracer_provider"])
async def test_a_provider_of_a_wrong_type_is_an_error(argument: str) -> None:
    """The error has the argument's name and value."""
    wrong: Any = {argument: "a provider"}
    with pytest.raises(TypeError, match=f"{argument} must be an opentelemetry.*, not 'a provider'"):
        async with open_buffers(MemoryStore(), PAIRS, **wrong):
            pass
