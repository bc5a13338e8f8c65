"""Shared helpers of the ClickHouse store's tests: tables, and a store that delivers at once."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, NamedTuple

from forebay import Keep, Max, Min, Replace, RetryPolicy, Sum, Table
from forebay.stores.clickhouse import ClickHouseStore, open_clickhouse
from tests.stores.clickhouse.proxy import Proxy
from tests.stores.clickhouse.real_server import RealServer
from tests.waiting import wait_until_async


class Line(NamedTuple):
    text: str
    size: int | None


class Page(NamedTuple):
    url: str
    status: int | None


class Count(NamedTuple):
    name: str
    total: int
    low: float | None
    high: int
    first: str
    last: str | None


lines = Table(Line, name="lines")
pages = Table(Page, name="pages", key="url")
counts = Table(
    Count,
    name="counts",
    key="name",
    merge={"total": Sum, "low": Min, "high": Max, "first": Keep, "last": Replace},
)


def open_store(
    server: RealServer | Proxy, database: str, folder: Path, *tables: Table[Any], **options: Any
) -> AbstractAsyncContextManager[ClickHouseStore, bool | None]:
    return open_clickhouse(
        server.url,
        **{
            "database": database,
            "spool": folder / "app.spool.db",
            "create": tables,
            "insert_interval": 0.0,
            "retry": RetryPolicy(initial_delay=0.01, max_delay=0.05),
            "delivery_timeout": 30.0,
            **options,
        },
    )


async def wait_until_blocked(store: ClickHouseStore) -> None:
    """Wait until no row of a table can be delivered."""
    await wait_until_async(
        lambda: store.statistics().state == "blocked", "a table is blocked", store.statistics
    )
