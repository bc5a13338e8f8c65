"""The ClickHouse store: batches are committed to a spool, and relays deliver them."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import trio

from forebay._batching.batch import Batch
from forebay._database import Database
from forebay._errors import SchemaError, StoreError, raise_schema_errors
from forebay._owner import Owner
from forebay._table.json_format import decode_declaration, encode_declaration
from forebay._table.table import Table
from forebay.stores import Attempt, DeliveryObserver, SpoolState, Store
from forebay.stores.clickhouse._attempt import ClickHouseAttempt, TableWriter
from forebay.stores.clickhouse._client import Client
from forebay.stores.clickhouse._declared import (
    CreateOptions,
    declaration_errors,
    unsupported_calls,
)
from forebay.stores.clickhouse._encoder import BlockEncoder
from forebay.stores.clickhouse._failures import NoAnswerError, ServerError
from forebay.stores.clickhouse._inspection import Inspector, version_problem
from forebay.stores.clickhouse._relay import Relay, RelayOptions, RelayState, TableNow
from forebay.stores.clickhouse._schema import check_functions, check_table, describe_types
from forebay.stores.clickhouse._spool import Spool
from forebay.stores.clickhouse._spool_table import EMPTY, KnownTable
from forebay.stores.clickhouse._start_limit import StartLimit
from forebay.stores.clickhouse._statistics import ClickHouseStatistics, DeliveryStatistics, combine
from forebay.stores.sqlite._database_id import create_id

_logger = logging.getLogger(__name__)


class _PreparedTable:
    """A table to which this program writes."""

    def __init__(self, writer: TableWriter, *, has_views: bool, verified: bool) -> None:
        self.writer = writer
        self.unsupported = unsupported_calls(writer.encoder.table)
        self.has_views = has_views
        self.verified = verified


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
        create_options: CreateOptions,
        relay_options: RelayOptions,
        longest_outage: float,
        start_timeout: float,
        first_limit: StartLimit,
    ) -> None:
        self.url = url
        self.database = database
        self.spool: str = spool.path
        self._spool = spool
        self._client = client
        self._nursery = nursery
        self._create_options = create_options
        self._relay_options = relay_options
        self._longest_outage = longest_outage
        self._start_timeout = start_timeout
        self._start_limit = first_limit
        self._inspector = Inspector(client, timeout=relay_options.request_timeout)
        self._owner = Owner(f"the store of {url!r}", calls="trio.from_thread.run(…)")
        self._tables: dict[str, _PreparedTable] = {}
        self._declared: dict[str, Table[Any]] = {}
        self._relays: dict[str, Relay] = {}
        self._warned: set[str] = set()
        self._knows_version = False
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
        """Report deliveries to an observer from now on, once however often it is passed."""
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
                    no_answer = await self._prepare(table, limit, no_answer)
                except SchemaError as error:
                    refused = [error]
            errors += refused
        raise_schema_errors(errors)

    async def recheck(self, table: Table[Any]) -> None:  # noqa: ARG002  # commits need only the spool
        """Do nothing: a suspended buffer waits for its spool, not for a table."""
        await trio.lowlevel.checkpoint()

    async def _prepare(
        self, table: Table[Any], limit: StartLimit, no_answer: NoAnswerError | None
    ) -> NoAnswerError | None:
        """Check one table, or use what the spool knows about it.

        Args:
            table: the table.
            limit: the time that is left.
            no_answer: why the server is not asked; None if it is.

        Returns:
            Why the server is not to be asked about other tables.
        """
        self._declared[table.name] = table
        if no_answer is None:
            try:
                known = await self._find_out(table, limit)
            except NoAnswerError as error:
                no_answer = error
                known = await self._load(table, no_answer)
        else:
            known = await self._load(table, no_answer)
        encoder = BlockEncoder(table, self.database, json.loads(known.types))
        writer = TableWriter(encoder, self._spool, version=known.version)
        self._tables[table.name] = _PreparedTable(
            writer, has_views=known.has_views, verified=no_answer is None
        )
        self._relay(table.name)
        return no_answer

    async def _find_out(self, table: Table[Any], limit: StartLimit) -> KnownTable:
        try:
            types, has_views = await limit.call(partial(self._check, table))
        except ServerError as error:
            raise StoreError(f"{self.url}, database {self.database!r}: {error}") from error
        return await self._save(table, types, has_views=has_views)

    async def _load(self, table: Table[Any], no_answer: NoAnswerError) -> KnownTable:
        known = await self._spool.load_table(table.name)
        if known is None or known.declaration != encode_declaration(table):
            raise StoreError(
                f"{self.url} does not answer ({no_answer}), and the table {table.name!r} was never "
                f"checked with this declaration; start the server, or correct the URL"
            ) from no_answer
        _logger.warning(
            "%s does not answer (%s); rows of table %r wait in the spool %r",
            *(self.url, no_answer, table.name, self.spool),
        )
        return known

    async def _save(
        self, table: Table[Any], types: Mapping[str, str], *, has_views: bool
    ) -> KnownTable:
        return await self._spool.save_table(
            table.name,
            declaration=encode_declaration(table),
            types=json.dumps(types),
            has_views=has_views,
        )

    async def _check(self, table: Table[Any]) -> tuple[dict[str, str], bool]:
        """Check a table in the server.

        Returns:
            The types of its columns, and whether an error can leave a part of a block in a table.
        """
        await self._check_version()
        await check_functions(table, self._inspector)
        found = await self._inspector.find(self.database, table.name)
        check_table(
            self.database,
            table,
            found,
            self._create_options,
            longest_outage=self._longest_outage,
        )
        for part in found.parts:
            if not part.syncs and part.full_name not in self._warned:
                self._warned.add(part.full_name)
                _logger.warning(
                    "table %s has fsync_after_insert = 0: a power cut of the server can lose rows "
                    "that it has acknowledged; to change it, run: ALTER TABLE %s MODIFY SETTING "
                    "fsync_after_insert = 1, fsync_part_directory = 1",
                    *(part.full_name, part.full_name),
                )
        return describe_types(table, found.columns), found.has_views_or_shards

    async def _check_version(self) -> None:
        """Check the version of the server, and send the settings that it knows from now on."""
        version = await self._inspector.version()
        problem = version_problem(version)
        if problem is not None:
            raise StoreError(f"{self.url}: {problem}")
        self._client.know_version(version)
        self._knows_version = True

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
                look_up=partial(self._look_up, name),
                verify=partial(self._verify, name),
                observers=self._observers,
            )
            self._relays[name] = relay
            self._nursery.start_soon(relay.run, name=f"forebay relay {name}")
        return self._relays[name]

    async def _verify(self, name: str) -> None:
        """Check what could not be checked before the first contact: the version, and a table."""
        if not self._knows_version:
            await self._check_version()
        prepared = self._tables.get(name)
        if prepared is not None and not prepared.verified:
            types, prepared.has_views = await self._check(self._declared[name])
            BlockEncoder(self._declared[name], self.database, types)
            prepared.verified = True

    async def _look_up(self, name: str) -> TableNow | None:
        """Return what a table is now. Later batches are encoded for the types that it has now."""
        prepared = self._tables.get(name)
        try:
            if prepared is None:
                return await self._look_up_declaration(name)
            writer, table = prepared.writer, self._declared[name]
            types, prepared.has_views = await self._check(table)
            encoder = BlockEncoder(table, self.database, types)
            if encoder.types != writer.encoder.types:
                await self._save(table, types, has_views=prepared.has_views)
                writer.encoder = encoder
            return TableNow(encoder, prepared.has_views)
        except (SchemaError, StoreError, ServerError, NoAnswerError):
            if prepared is not None:
                prepared.verified = False  # it is checked before the next attempt, which says why
            return None

    async def _look_up_declaration(self, name: str) -> TableNow | None:
        """Do the same for a table to which only an earlier program wrote."""
        known = await self._spool.load_table(name)
        if known is None:
            return None
        table = decode_declaration(known.declaration)
        found = await self._inspector.find(self.database, name)
        if not {column.name for column in table.columns} <= found.columns.keys():
            return None
        types = describe_types(table, found.columns)
        encoder = BlockEncoder(table, self.database, types, stored=True)
        return TableNow(encoder, found.has_views_or_shards)
