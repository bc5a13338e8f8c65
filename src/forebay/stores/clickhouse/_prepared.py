"""The tables to which a program writes: they are checked at the start, and looked up later."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from forebay._errors import SchemaError, StoreError
from forebay._table.json_format import decode_declaration, encode_declaration
from forebay._table.table import Table
from forebay.stores.clickhouse._attempt import TableWriter
from forebay.stores.clickhouse._client import Client
from forebay.stores.clickhouse._declared import CreateOptions, unsupported_calls
from forebay.stores.clickhouse._encoder import BlockEncoder
from forebay.stores.clickhouse._failures import NoAnswerError, ServerError
from forebay.stores.clickhouse._inspection import Inspector, version_problem
from forebay.stores.clickhouse._replacement import TableNow
from forebay.stores.clickhouse._schema import check_functions, check_table, describe_types
from forebay.stores.clickhouse._spool import Spool
from forebay.stores.clickhouse._spool_table import KnownTable
from forebay.stores.clickhouse._start_limit import StartLimit

_logger = logging.getLogger(__name__)


class PreparedTable:
    """A table to which this program writes.

    Attributes:
        writer: adds its batches to the spool.
        unsupported: the methods of `Buffer` that ClickHouse cannot serve for it, with reasons.
        has_views: whether an error can leave a part of a block in a table.
        verified: whether the server was asked about it since the program started.
    """

    def __init__(self, writer: TableWriter, *, has_views: bool, verified: bool) -> None:
        self.writer = writer
        self.unsupported: dict[str, str] = unsupported_calls(writer.encoder.table)
        self.has_views = has_views
        self.verified = verified


class PreparedTables:
    """The tables of one database to which this program writes, by name.

    Args:
        url: scheme, host and port of the server.
        database: the name of the database.
        spool: keeps what is known about the tables, for a start without the server.
        client: the client of the server.
        timeout: how long a query may take, in seconds.
        create_options: how tables would be created.
        longest_outage: after how many seconds a block must still be recognised.
    """

    def __init__(
        self,
        *,
        url: str,
        database: str,
        spool: Spool,
        client: Client,
        timeout: float,
        create_options: CreateOptions,
        longest_outage: float,
    ) -> None:
        self._url = url
        self._database = database
        self._spool = spool
        self._client = client
        self._inspector = Inspector(client, timeout=timeout)
        self._create_options = create_options
        self._longest_outage = longest_outage
        self._prepared: dict[str, PreparedTable] = {}
        self._declared: dict[str, Table[Any]] = {}
        self._warned: set[str] = set()
        self._knows_version = False

    def __getitem__(self, name: str) -> PreparedTable:
        return self._prepared[name]

    async def prepare(
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
        encoder = BlockEncoder(table, self._database, json.loads(known.types))
        writer = TableWriter(encoder, self._spool, version=known.version)
        self._prepared[table.name] = PreparedTable(
            writer, has_views=known.has_views, verified=no_answer is None
        )
        return no_answer

    async def _find_out(self, table: Table[Any], limit: StartLimit) -> KnownTable:
        try:
            types, has_views = await limit.call(partial(self._check, table))
        except ServerError as error:
            raise StoreError(f"{self._url}, database {self._database!r}: {error}") from error
        return await self._save(table, types, has_views=has_views)

    async def _load(self, table: Table[Any], no_answer: NoAnswerError) -> KnownTable:
        known = await self._spool.load_table(table.name)
        if known is None or known.declaration != encode_declaration(table):
            raise StoreError(
                f"{self._url} does not answer ({no_answer}), and the table {table.name!r} was "
                f"never checked with this declaration; start the server, or correct the URL"
            ) from no_answer
        _logger.warning(
            "%s does not answer (%s); rows of table %r wait in the spool %r",
            *(self._url, no_answer, table.name, self._spool.path),
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
        found = await self._inspector.find(self._database, table.name)
        check_table(
            self._database,
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
            raise StoreError(f"{self._url}: {problem}")
        self._client.know_version(version)
        self._knows_version = True

    async def verify(self, name: str) -> None:
        """Check what could not be checked before the first contact: the version, and a table."""
        if not self._knows_version:
            await self._check_version()
        prepared = self._prepared.get(name)
        if prepared is not None and not prepared.verified:
            types, prepared.has_views = await self._check(self._declared[name])
            BlockEncoder(self._declared[name], self._database, types)
            prepared.verified = True

    async def look_up(self, name: str) -> TableNow | None:
        """Return what a table is now. Later batches are encoded for the types that it has now."""
        prepared = self._prepared.get(name)
        try:
            if prepared is None:
                return await self._look_up_declaration(name)
            writer, table = prepared.writer, self._declared[name]
            types, prepared.has_views = await self._check(table)
            encoder = BlockEncoder(table, self._database, types)
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
        found = await self._inspector.find(self._database, name)
        if not {column.name for column in table.columns} <= found.columns.keys():
            return None
        types = describe_types(table, found.columns)
        encoder = BlockEncoder(table, self._database, types, stored=True)
        return TableNow(encoder, found.has_views_or_shards)
