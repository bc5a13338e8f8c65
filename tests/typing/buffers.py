# pyright: strict
"""The types that mypy and pyright must infer for tables and buffers. Checked, never run."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, assert_type

import attrs
import msgspec
import trio

import forebay
from forebay.stores.sqlite import CheckpointResult
from forebay.testing import MemoryStore


class Artifact(NamedTuple):
    key: str
    size_bytes: int | None


@dataclasses.dataclass
class Hit:
    url: str
    hits: int


@attrs.define
class Visit:
    page: str


class Sample(msgspec.Struct):
    at: float


artifacts = forebay.Table(Artifact, name="artifacts", key="key")
hits = forebay.Table(Hit, name="hits", key=["url"], merge={"hits": forebay.Sum})
visits = forebay.Table(Visit, name="visits", merge=forebay.Keep, delete_by="page")
samples = forebay.Table(Sample, name="samples", nan_as_null=True)
columns = forebay.Table.from_columns({"key": str, "n": int | None}, name="columns", key="key")

index = forebay.Index("page", unique=True, where="page > ''", name="pages")
indexed = forebay.Table(
    Visit,
    name="visits",
    indexes=["page", ("page",), ["page"], index],
    column_names={"page": "the page"},
    defaults={"page": "/"},
)

assert_type(indexed, forebay.Table[Visit])
assert_type(indexed.indexes, tuple[forebay.Index, ...])
assert_type(artifacts, forebay.Table[Artifact])
assert_type(hits, forebay.Table[Hit])
assert_type(visits, forebay.Table[Visit])
assert_type(samples, forebay.Table[Sample])
assert_type(columns, forebay.Table[tuple[Any, ...]])

forebay.Table(Artifact(key="", size_bytes=1), name="a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
forebay.Table(Artifact)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
forebay.Table(Artifact, name="a", indexes=[1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
forebay.Index(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
forebay.Table(Artifact, name="a", merge="sum")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def buffers_of(store: forebay.SqliteStore) -> None:
    async with forebay.open_buffers(
        store, artifacts, hits, visits, samples, columns, options=forebay.BufferOptions()
    ) as buffers:
        assert_type(buffers, forebay.Buffers)
        assert_type(buffers[artifacts], forebay.Buffer[Artifact])
        assert_type(buffers[hits], forebay.Buffer[Hit])
        assert_type(buffers[visits], forebay.Buffer[Visit])
        assert_type(buffers[samples], forebay.Buffer[Sample])
        assert_type(buffers[columns], forebay.Buffer[tuple[Any, ...]])
        assert_type([buffer.name for buffer in buffers], list[str])
        assert_type(buffers.statistics(), dict[str, forebay.BufferStatistics])
        assert_type(await buffers.flush(), None)
        buffers["artifacts"]  # type: ignore[index]  # pyright: ignore[reportArgumentType]


async def rows(buffer: forebay.Buffer[Artifact]) -> None:
    artifact = Artifact("a", None)
    buffer.enqueue_nowait(artifact)
    await buffer.enqueue(artifact)
    assert_type(await buffer.enqueue_many([artifact]), int)
    assert_type(await buffer.enqueue_many(Artifact(key, 1) for key in "abc"), int)
    await buffer.write(artifact)
    await buffer.enqueue_delete("a")
    await buffer.enqueue_delete_by("a")
    await buffer.enqueue_update("a", size_bytes=1)
    assert_type(await buffer.get("a"), Artifact | None)
    assert_type(await buffer.get_many(["a"]), dict[Any, Artifact])
    assert_type(buffer.table, forebay.Table[Artifact])
    assert_type(buffer.statistics().oldest_age, float)


async def wrong_rows(buffer: forebay.Buffer[Artifact]) -> None:
    hit = Hit("a", 1)
    buffer.enqueue_nowait(hit)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await buffer.enqueue(hit)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await buffer.enqueue(("a", 1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await buffer.enqueue_many([hit])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    await buffer.enqueue_many(Artifact("a", 1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await buffer.write(hit)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await buffer.enqueue_update(size_bytes=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def stores() -> None:
    async with forebay.open_sqlite("a.db", create=[artifacts, hits], synchronous="FULL") as store:
        assert_type(store, forebay.SqliteStore)
        assert_type(await store.fetch_all("SELECT 1", [1]), list[tuple[Any, ...]])
        assert_type(await store.fetch_one("SELECT :a", {"a": 1}), tuple[Any, ...] | None)
        assert_type(await store.fetch_all("SELECT 1", table=artifacts), list[Artifact])
        assert_type(await store.fetch_all("SELECT ?", [1], table=hits), list[Hit])
        assert_type(await store.fetch_one("SELECT 1", table=samples), Sample | None)
        assert_type(await store.fetch_one("SELECT 1", table=columns), tuple[Any, ...] | None)
        await store.fetch_all("SELECT 1", table=Artifact)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
        async with store.iterate("SELECT 1", table=artifacts) as batches:
            assert_type([batch async for batch in batches], list[list[Artifact]])
        async with store.iterate("SELECT ?", [1], batch_size=10) as tuples:
            async for rows in tuples:
                assert_type(rows, list[tuple[Any, ...]])
        store.iterate("SELECT 1", table="artifacts")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
        assert_type(await store.backup("b.db", overwrite=True), None)
        assert_type(await store.checkpoint("PASSIVE"), CheckpointResult)
        assert_type(await store.run(lambda raw: raw.total_changes), int)
    async with forebay.open_sqlite("a.db", synchronous="full"):  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        pass
    async with trio.open_nursery() as nursery:
        await nursery.start(forebay.run_buffers, MemoryStore(), artifacts)


class MyAttempt:
    async def commit(self, *, rejection_limit: float) -> forebay.stores.Outcome:
        raise NotImplementedError


class MyStore(forebay.stores.Store):
    async def prepare(self, tables: Any) -> None: ...

    def begin(self, batch: forebay.stores.Batch) -> forebay.stores.Attempt:
        return MyAttempt()


class NoAttempt:
    async def commit(self) -> forebay.stores.Outcome:
        raise NotImplementedError


class IncompleteStore(forebay.stores.Store):
    async def prepare(self, tables: Any) -> None: ...


memory: forebay.stores.Store = MemoryStore()
mine: forebay.stores.Store = MyStore()
incomplete = IncompleteStore()  # type: ignore[abstract]  # pyright: ignore[reportAbstractUsage]
attempt: forebay.stores.Attempt = MyAttempt()
no_attempt: forebay.stores.Attempt = NoAttempt()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


def unsettled(drain: forebay.DrainError, flush: forebay.FlushError) -> None:
    assert_type(drain.unsettled, dict[str, forebay.Unsettled])
    assert_type(flush.unsettled, forebay.Unsettled)
    assert_type(flush.unsettled.count, int)


options = forebay.BufferOptions(capacity=10).override({"retry": {"max_delay": 5}})
assert_type(options, forebay.BufferOptions)
assert_type(options.retry, forebay.RetryPolicy)
forebay.BufferOptions(capacity="10")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
forebay.BufferOptions(10)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
