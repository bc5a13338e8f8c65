"""The ClickHouse store: batches are committed to a local spool, from which tasks deliver them."""

from __future__ import annotations

from forebay.stores.clickhouse._compression import Compression
from forebay.stores.clickhouse._opening import open_clickhouse
from forebay.stores.clickhouse._spool import Synchronous
from forebay.stores.clickhouse._statistics import ClickHouseStatistics, DeliveryStatistics
from forebay.stores.clickhouse._store import ClickHouseStore

__all__ = [
    "ClickHouseStatistics",
    "ClickHouseStore",
    "Compression",
    "DeliveryStatistics",
    "Synchronous",
    "open_clickhouse",
]
