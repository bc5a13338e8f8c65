"""The ClickHouse store: batches are committed to a spool, and relays deliver them."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import trio

from forebay._batching.batch import Batch
from forebay._database import Database
from forebay._errors import SchemaError, raise_schema_errors
from forebay._owner import Owner
from forebay._table.table import Table
from forebay.stores import Attempt, DeliveryObserver, SpoolState, Store
from forebay.stores.clickhouse._attempt import ClickHouseAttempt
from forebay.stores.clickhouse._client import Client
from forebay.stores.clickhouse._declared import declaration_errors
from forebay.stores.clickhouse._failures import NoAnswerError
from forebay.stores.clickhouse._prepared import PreparedTables
from forebay.stores.clickhouse._relay import Relay, RelayOptions, RelayState
from forebay.stores.clickhouse._spool import Spool
from forebay.stores.clickhouse._spool_table import EMPTY
from forebay.stores.clickhouse._start_limit import StartLimit
from forebay.stores.clickhouse._statistics import ClickHouseStatistics, DeliveryStatistics, combine
from forebay.stores.sqlite._database_id import create_id

_logger = logging.getLogger(__name__)


class ClickHouseStore(Store):
    """A database of a ClickHouse server. `open_clickhouse` opens it.

    A batch is committed when it is in the spool, a local file. A task per table then delivers it.

    Attributes:
        url: scheme, host and port of the server.
        database: the name of the database.
        spool: the path of the spool, absolute and without symbolic links.
    """

    def __init__(
        self,
        *,
        url: str,
        database: str,
        spool: Spool,
        client: Client,
        nursery: trio.Nursery,
        tables: PreparedTables,
        relay_options: RelayOptions,
        start_timeout: float,
        first_limit: StartLimit,
    ) -> None:
        self.url = url
        self.database = database
        self.spool: str = spool.path
        self._spool = spool
        self._client = client
        self._nursery = nursery
        self._relay_options = relay_options
        self._start_timeout = start_timeout
        self._start_limit = first_limit
        self._tables = tables
        self._owner = Owner(f"the store of {url!r}", calls="trio.from_thread.run(…)")
        self._relays: dict[str, Relay] = {}
        self._observers: list[DeliveryObserver] = []

    def __repr__(self) -> str:
        waiting = sum(size.entries for size in self._spool.sizes.values())
        return (
            f"<forebay.ClickHouseStore {self.url!r}, database {self.database!r}: "
            f"{waiting:,} rows wait in {self.spool!r}>"
        )

    @property
    def attributes(self) -> Mapping[str, str]:
        """The OpenTelemetry attributes of the spool, to which batches are committed."""
        return {"db.system.name": "sqlite", "db.namespace": self.spool}

    @property
    def delivery_attributes(self) -> Mapping[str, str]:
        """The OpenTelemetry attributes of the database in ClickHouse."""
        parts = urlsplit(self.url)
        return {
            "db.system.name": "clickhouse",
            "db.namespace": self.database,
            "server.address": str(parts.hostname),
        }

    def spool_state(self, table: str) -> SpoolState:
        """Return what of a table waits in the spool."""
        size = self._spool.sizes.get(table, EMPTY)
        age = 0.0 if size.oldest is None else max(0.0, time.time() - size.oldest)
        relay = self._relays.get(table)
        return SpoolState(
            size.entries,
            size.bytes,
            age,
            utilization=self._spool.bytes / self._spool.limit,
            blocked=relay is not None and relay.state is RelayState.BLOCKED,
        )

    def observe_deliveries(self, observer: DeliveryObserver) -> None:
        """Report deliveries to an observer from now on. To pass it again changes nothing."""
        if observer not in self._observers:
            self._observers.append(observer)

    # Tables

    async def prepare(self, tables: Sequence[Table[Any]]) -> None:
        """Check that the tables in ClickHouse keep the contracts of their declarations.

        `open_buffers` calls it. If the server does not answer, a table that was checked before with
        this declaration is accepted: it is checked again before the first block is sent. After the
        first request without an answer, the server is not asked about the other tables.

        Raises:
            SchemaError: tables do not keep the contract; the error has the SQL that corrects them.
            StoreError: the server is too old, refuses the user, or does not answer, and the table
                was never checked.
        """
        limit, self._start_limit = self._start_limit, StartLimit(self._start_timeout)
        errors: list[SchemaError] = []
        no_answer: NoAnswerError | None = None
        for table in tables:
            refused = list(declaration_errors(table))
            if not refused:
                try:
                    no_answer = await self._tables.prepare(table, limit, no_answer)
                    self._relay(table.name)
                except SchemaError as error:
                    refused = [error]
            errors += refused
        raise_schema_errors(errors)

    async def recheck(self, table: Table[Any]) -> None:  # noqa: ARG002  # commits need only the spool
        """Do nothing: a suspended buffer waits for its spool, not for a table."""
        await trio.lowlevel.checkpoint()

    def unsupported_calls(self, table: Table[Any]) -> Mapping[str, str]:
        """Return the methods of `Buffer` that ClickHouse cannot serve for a table, with reasons."""
        return self._tables[table.name].unsupported

    # Commits

    def begin(self, batch: Batch) -> Attempt:
        """Return an attempt to add a batch to the spool. The buffers call it."""
        name = batch.table.name
        return ClickHouseAttempt(
            batch,
            writer=self._tables[name].writer,
            spool=self._spool,
            wake=self._relay(name).wake,
        )

    async def identify(self) -> Database:
        """Return the path and the id of the spool, which a spill of the buffers then names.

        Raises:
            StoreError: the spool cannot be read or written.
        """
        return Database.at(self.spool, await self._spool.run(create_id))

    # Delivery

    async def delivered(self) -> None:
        """Wait until ClickHouse has acknowledged all that is in the spool now.

        Rows that the server refuses become dead letters, and count as delivered here. Flush the
        buffers first: what they have not flushed is not in the spool. While the server does not
        answer, this waits; use `trio.move_on_after` for a limit. A retry that is due later is made
        now. If this is cancelled, it only stops waiting.

        Raises:
            StoreError: the spool cannot be read.
            RuntimeError: this thread or process is not the one that opened the store.
        """
        self._owner.check()
        await trio.lowlevel.checkpoint()
        for name, relay in list(self._relays.items()):
            place = await self._spool.last_place(name)
            if place is not None:
                relay.hurry()
                await relay.wait_done(place)

    def statistics(self) -> ClickHouseStatistics:
        """Return what waits, what was delivered, and what failed, by table and in sum."""
        return combine({name: self._statistics_of(name) for name in self._relays})

    def _statistics_of(self, name: str) -> DeliveryStatistics:
        relay, size = self._relays[name], self._spool.sizes.get(name, EMPTY)
        state = self.spool_state(name)
        return DeliveryStatistics(
            waiting=size.entries,
            delivered=relay.delivered,
            refused=relay.refused,
            blocks=size.blocks,
            bytes=size.bytes,
            oldest_age=state.oldest_age,
            requests=relay.requests,
            retries=dict(relay.retries),
            state=relay.state.value,
            last_error=relay.last_error,
        )

    def start_waiting(self) -> None:
        """Start to deliver what waits in the spool. `open_clickhouse` calls it."""
        for name in self._spool.sizes:
            self._relay(name)

    def _relay(self, name: str) -> Relay:
        if name not in self._relays:
            relay = Relay(
                name,
                self._spool,
                self._client,
                self._relay_options,
                look_up=partial(self._tables.look_up, name),
                verify=partial(self._tables.verify, name),
                observers=self._observers,
            )
            self._relays[name] = relay
            self._nursery.start_soon(relay.run, name=f"forebay relay {name}")
        return self._relays[name]
