"""What a ClickHouse store has delivered, and what waits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forebay.stores.clickhouse._relay import RelayState


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryStatistics:
    """How the delivery of one table, or of all tables, proceeds.

    At every moment ``spooled == waiting + delivered + refused``.

    Attributes:
        spooled: the number of rows that were in the spool since the store was opened.
        waiting: the number of rows that wait in the spool.
        delivered: the number of rows that ClickHouse has acknowledged.
        refused: the number of rows that ClickHouse refused, which are dead letters in the spool.
        blocks: the number of INSERTs that wait.
        bytes: the size of what waits, in bytes.
        oldest_age: how long the oldest row has waited, in seconds; 0 if nothing waits.
        requests: the number of INSERTs that were sent.
        retries: the number of INSERTs that failed, by the code of the error: ClickHouse's number,
            or the name of the failure if no answer came.
        state: what the relay does: ``"idle"``, ``"sending"``, ``"retrying"`` or ``"blocked"``; for
            all tables, the last of these that is true of one.
        last_error: why the last INSERT failed; None if it did not.
    """

    waiting: int
    delivered: int
    refused: int
    blocks: int
    bytes: int
    oldest_age: float
    requests: int
    retries: Mapping[str, int]
    state: str
    last_error: str | None

    @property
    def spooled(self) -> int:
        """The number of rows that were in the spool since the store was opened."""
        return self.waiting + self.delivered + self.refused


@dataclass(frozen=True, slots=True, kw_only=True)
class ClickHouseStatistics(DeliveryStatistics):
    """How the delivery of all tables proceeds.

    Attributes:
        tables: the same of each table, by name.
    """

    tables: Mapping[str, DeliveryStatistics]


def combine(tables: Mapping[str, DeliveryStatistics]) -> ClickHouseStatistics:
    """Return the statistics of all tables together."""
    parts = tables.values()
    retries: dict[str, int] = {}
    for part in parts:
        for code, count in part.retries.items():
            retries[code] = retries.get(code, 0) + count
    order = [state.value for state in RelayState]
    return ClickHouseStatistics(
        waiting=sum(part.waiting for part in parts),
        delivered=sum(part.delivered for part in parts),
        refused=sum(part.refused for part in parts),
        blocks=sum(part.blocks for part in parts),
        bytes=sum(part.bytes for part in parts),
        oldest_age=max((part.oldest_age for part in parts), default=0.0),
        requests=sum(part.requests for part in parts),
        retries=retries,
        state=max((part.state for part in parts), key=order.index, default=order[0]),
        last_error=next((part.last_error for part in parts if part.last_error), None),
        tables=tables,
    )
