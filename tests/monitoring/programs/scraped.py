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
from typing import NamedTuple

import prometheus_client
import trio
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider

import forebay
import forebay.testing
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
        return SpoolState(entries=len(table), bytes=100, oldest_age=3600.0)

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
