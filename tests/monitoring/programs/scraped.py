"""A program under load that Prometheus scrapes: python scraped.py DATABASE.

It prints the port to scrape. Everything that the dashboard shows takes place: retries, as another
connection takes the lock now and then; rows that the table refuses; superseded entries; and a
buffer that fails.
"""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import NamedTuple

import prometheus_client
import trio
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider

import forebay
import forebay.testing
from forebay.cache import (
    ArtifactKey,
    CacheOptions,
    ObjectInfo,
    S3Transfer,
    UnavailableError,
    open_cache,
)
from forebay.stores import DeliveryObserver, SpoolState


class KeyValue(NamedTuple):
    key: str
    size: int


KEY_VALUES = forebay.Table(KeyValue, name="key_values", key="key")
DOOMED = forebay.Table(KeyValue, name="doomed", key="key")
DELIVERED = forebay.Table(KeyValue, name="delivered", key="key")
OPTIONS = forebay.BufferOptions(flush_interval=0.02, dead_letters_per_minute=None)


def execute(raw: sqlite3.Connection, sql: str) -> None:
    raw.execute(sql)


async def hold_the_lock(path: str) -> None:
    other = await forebay.sqlite.Connection.open(path)
    while True:
        await other.run(execute, "BEGIN IMMEDIATE")
        await trio.sleep(0.3)
        await other.run(execute, "ROLLBACK")
        await trio.sleep(0.3)


async def fail(store: forebay.SqliteStore, provider: MeterProvider) -> None:
    try:
        async with forebay.open_buffers(store, DOOMED, meter_provider=provider) as buffers:
            await store.run(execute, "DROP TABLE doomed")
            await buffers[DOOMED].enqueue(KeyValue("lost", 1))
    except forebay.FlushError:
        pass


class Delivering(forebay.testing.MemoryStore):
    """A store whose database does not take what is committed: it refuses each second request."""

    def __init__(self) -> None:
        super().__init__()
        self.observers: list[DeliveryObserver] = []

    def spool_state(self, table: str) -> SpoolState:
        return SpoolState(
            entries=len(table), bytes=100, oldest_age=3600.0, utilization=0.9, blocked=True
        )

    @property
    def delivery_attributes(self) -> dict[str, str]:
        return {"db.system.name": "clickhouse", "db.namespace": "app"}

    def observe_deliveries(self, observer: DeliveryObserver) -> None:
        self.observers.append(observer)


async def deliver(provider: MeterProvider) -> None:
    store = Delivering()
    async with forebay.open_buffers(store, DELIVERED, meter_provider=provider):
        while True:
            for observer in store.observers:
                for code in ("241", None):
                    observer.requested("delivered", duration=0.1, code=code, answered=True)
                observer.delivered("delivered", age=2.0)
            await trio.sleep(0.02)


class Storage:
    """An object storage that has some objects, fails often, and is unavailable now and then."""

    def __init__(self) -> None:
        self.calls = 0

    async def upload(self, transfer: S3Transfer, path: Path, info: ObjectInfo) -> None:
        self.calls += 1
        if self.calls % 3 == 0:
            raise UnavailableError("scripted")
        if self.calls % 3 == 1:
            raise ValueError("scripted")

    async def download(self, transfer: S3Transfer, path: Path) -> ObjectInfo:
        return ObjectInfo()

    async def exists(self, transfer: S3Transfer) -> bool:
        return transfer.key.endswith("0")

    async def delete_project(self, account: str, project: str) -> None:
        raise UnavailableError("scripted")


async def use_cache(folder: Path, provider: MeterProvider) -> None:
    options = CacheOptions(
        budget_bytes=2_000,
        key_value_budget_bytes=2_000,
        eviction_interval=0.05,
        transfer_interval=0.05,
        transfer_attempts=1,
        transfer_backoff=forebay.RetryPolicy(initial_delay=0.01, max_delay=0.02),
    )
    async with open_cache(
        folder, storage=Storage(), options=options, meter_provider=provider
    ) as cache:
        for n in count():
            name = ArtifactKey("acme", "app", "cas", str(n))
            await cache.store_artifact(name, bytes(100))
            async with (
                cache.reading_artifact(name),
                cache.reading_artifact(ArtifactKey("acme", "app", "ac", str(n))),
            ):
                pass
            await cache.key_values.put_bytes(str(n), "acme", "app", bytes(100))
            await cache.key_values.get_bytes(str(n), "acme", "app")
            await cache.key_values.get_bytes("none", "acme", "app")
            await trio.sleep(0.02)


async def main(path: str) -> None:
    provider = MeterProvider([PrometheusMetricReader()])
    server, _ = prometheus_client.start_http_server(0, "127.0.0.1")
    print(server.server_port, flush=True)
    async with (
        forebay.open_sqlite(path, create=[DOOMED]) as store,
        forebay.open_buffers(
            store, KEY_VALUES, options=OPTIONS, meter_provider=provider
        ) as buffers,
        trio.open_nursery() as nursery,
    ):
        await fail(store, provider)
        nursery.start_soon(hold_the_lock, path)
        nursery.start_soon(deliver, provider)
        nursery.start_soon(use_cache, Path(path).parent / "cache", provider)
        for n in count():
            await buffers[KEY_VALUES].enqueue(KeyValue(f"k{n % 100}", n))
            await buffers[KEY_VALUES].enqueue(KeyValue(f"k{n % 100}", n))
            await buffers[KEY_VALUES].enqueue_delete(f"k{n % 7}")
            if n % 100 == 0:
                await buffers[KEY_VALUES].enqueue(KeyValue("refused", -1))
            await trio.sleep(0.002)


with closing(sqlite3.connect(sys.argv[1])) as raw:
    raw.execute("CREATE TABLE key_values (key TEXT PRIMARY KEY, size INTEGER CHECK (size >= 0))")
trio.run(main, sys.argv[1])
