"""Ask ClickHouse about a table: its columns, its engine, its views, and its shards."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from forebay.stores.clickhouse._client import Client, version_numbers
from forebay.stores.clickhouse._declared import full_name
from forebay.stores.clickhouse._failures import NoAnswerError, ServerError
from forebay.stores.clickhouse._server_types import call_arguments, quote_text, unquote_name

OLDEST: Final = (24, 8)
"""The oldest version of ClickHouse that this store works with."""


_NO_FUNCTION: Final = (36, 63)
"""The codes for a function that no `SimpleAggregateFunction` may have (BAD_ARGUMENTS), and for one
that does not exist (UNKNOWN_AGGREGATE_FUNCTION)."""


@dataclass(frozen=True, slots=True)
class FoundColumn:
    """A column of the table in the database.

    Attributes:
        type: its type.
        kind: `DEFAULT`, `MATERIALIZED`, `ALIAS`, `EPHEMERAL`, or empty.
    """

    type: str
    kind: str


@dataclass(frozen=True, slots=True)
class FoundTable:
    """A table that holds rows: the table itself, one shard of it, or the target of a view.

    Attributes:
        full_name: its quoted name.
        engine: the name of its engine.
        engine_full: the engine with its arguments and settings.
        sorting_key: the expressions by which it is ordered.
        partition_key: the expression by which it is partitioned; empty without one.
        partition_columns: the columns in that expression.
        window: how many tokens it remembers; None if its engine is not of the MergeTree family.
        window_seconds: how long it remembers them; None if it is not replicated.
        syncs: whether it waits for the disk before it acknowledges an INSERT.
    """

    full_name: str
    engine: str
    engine_full: str
    sorting_key: str
    partition_key: str
    partition_columns: tuple[str, ...]
    window: int | None
    window_seconds: int | None
    syncs: bool


@dataclass(frozen=True, slots=True)
class Found:
    """What the server says about a table.

    Attributes:
        columns: its columns by name; empty if there is no such table.
        parts: the tables that hold its rows: itself, or one per shard.
        sharding: the sharding expression of a Distributed table; None for other engines.
        view_targets: the tables to which materialized views write what is inserted.
        has_views: whether views read what is inserted, also if their targets cannot be seen.
        hidden: the quoted names of views, and of targets of views, that the user cannot see.
        user: the name of the user.
        has_database: whether the user can see the database.
    """

    columns: Mapping[str, FoundColumn]
    parts: Sequence[FoundTable]
    sharding: str | None
    view_targets: Sequence[FoundTable]
    has_views: bool
    hidden: Sequence[str] = ()
    user: str = ""
    has_database: bool = True

    @property
    def has_views_or_shards(self) -> bool:
        """Whether an error can leave a part of a block in a table.

        If a view, or one of several shards, fails, other tables may have the block already.
        """
        return self.has_views or self.sharding is not None


class Inspector:
    """Asks one server.

    Args:
        client: the client of the server.
        timeout: how long each query may take, in seconds.
    """

    def __init__(self, client: Client, *, timeout: float) -> None:
        self._client = client
        self._timeout = timeout

    async def version(self) -> str:
        """Return the version of the server, which begins with two numbers."""
        rows = await self._query("SELECT version() AS version")
        found = str(rows[0].get("version")) if rows else ""
        if not _VERSION.match(found):
            raise NoAnswerError("UnexpectedAnswer", f"{found!r} is no version of ClickHouse")
        return found

    async def has_aggregate(self, function: str) -> bool:
        """Return whether a column may have a function as its `SimpleAggregateFunction`."""
        column = f"SimpleAggregateFunction({function}, Nullable(String))"
        try:
            await self._query(f"SELECT CAST(NULL AS {column}) AS value")
        except ServerError as error:
            if error.code not in _NO_FUNCTION:
                raise
            return False
        return True

    async def find(self, database: str, name: str) -> Found:
        """Return what the server says about a table."""
        where = f"database = {quote_text(database)} AND table = {quote_text(name)}"
        columns = await self._query(
            f"SELECT name, type, default_kind FROM system.columns WHERE {where} ORDER BY position"
        )
        tables = await self._tables(_local, database, name)
        if not columns or not tables:  # the table may have been dropped between the two queries
            databases = await self._query(
                f"SELECT name FROM system.databases WHERE name = {quote_text(database)}"
            )
            return Found({}, (), None, (), has_views=False, has_database=bool(databases))
        [row] = tables
        sharding, parts = None, [row]
        if row["engine"] == "Distributed":
            cluster, remote_database, remote_name, *rest = _distributed_arguments(
                row["engine_full"]
            )
            sharding = rest[0] if rest else ""
            parts = await self._tables(_on(cluster), remote_database, remote_name)
        read = [row] if sharding is None else [row, *parts]
        targets, hidden = await self._follow_views(read)
        defaults = await self._defaults()
        return Found(
            {c["name"]: FoundColumn(c["type"], c["default_kind"]) for c in columns},
            [await self._found_table(part, defaults) for part in parts],
            sharding,
            [await self._found_table(target, defaults) for target in targets],
            has_views=any(table["dependencies_table"] for table in read),
            hidden=hidden,
            user=self._client.user,
        )

    async def _query(self, sql: str) -> list[dict[str, Any]]:
        return await self._client.query(sql, timeout=self._timeout)

    async def _tables(self, source: _Source, database: str, name: str) -> list[dict[str, Any]]:
        """Return what system.tables says about a table, once per server of the source."""
        rows = await self._query(
            f"SELECT database, name, engine, engine_full, sorting_key, partition_key, uuid, "
            f"create_table_query, dependencies_database, dependencies_table "
            f"FROM {source('tables')} "
            f"WHERE database = {quote_text(database)} AND name = {quote_text(name)}"
        )
        return [{**row, "source": source} for row in rows]

    async def _defaults(self) -> dict[str, str]:
        names = (
            "'non_replicated_deduplication_window', 'replicated_deduplication_window', "
            "'replicated_deduplication_window_seconds', 'fsync_after_insert'"
        )
        rows = await self._query(
            f"SELECT name, value FROM system.merge_tree_settings WHERE name IN ({names})"
        )
        return {row["name"]: row["value"] for row in rows}

    async def _found_table(self, row: Mapping[str, Any], defaults: Mapping[str, str]) -> FoundTable:
        def setting(name: str) -> int:
            match = re.search(rf"\b{name} = '?(\w+)", row["engine_full"])
            value = defaults.get(name, "0") if match is None else match[1]
            return int(value) if value.isdecimal() else int(value == "true")

        replicated = row["engine"].startswith(("Replicated", "Shared"))
        is_merge_tree = row["engine"].endswith("MergeTree")
        prefix = "" if replicated else "non_"
        columns = await self._query(
            f"SELECT DISTINCT name FROM {row['source']('columns')} WHERE is_in_partition_key "
            f"AND database = {quote_text(row['database'])} AND table = {quote_text(row['name'])}"
        )
        return FoundTable(
            full_name=full_name(row["database"], row["name"]),
            engine=row["engine"],
            engine_full=row["engine_full"],
            sorting_key=row["sorting_key"],
            partition_key=row["partition_key"],
            partition_columns=tuple(column["name"] for column in columns),
            window=setting(f"{prefix}replicated_deduplication_window") if is_merge_tree else None,
            window_seconds=setting("replicated_deduplication_window_seconds")
            if replicated
            else None,
            syncs=replicated or bool(setting("fsync_after_insert")),
        )

    async def _follow_views(
        self, tables: Sequence[dict[str, Any]]
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the tables to which views write, also views of views, and what is hidden."""
        targets: list[dict[str, Any]] = []
        hidden: list[str] = []
        known: set[tuple[str, str]] = set()

        async def look_up(source: _Source, database: str, name: str) -> list[dict[str, Any]]:
            if (database, name) in known:
                return []
            known.add((database, name))
            found = await self._tables(source, database, name)
            if not found:
                hidden.append(full_name(database, name))
            return found

        waiting = list(tables)
        while waiting:
            table = waiting.pop()
            source = table["source"]
            names = zip(table["dependencies_database"], table["dependencies_table"], strict=True)
            for database, name in names:
                for view in await look_up(source, database, name):
                    target = _view_target(view)
                    if target is not None:
                        found = await look_up(source, *target)
                        targets += found
                        waiting += found
        return targets, hidden


_Source: TypeAlias = Callable[[str], str]
"""Returns where a system table is read."""


def _local(table: str) -> str:
    return f"system.{table}"


def _on(cluster: str) -> _Source:
    return lambda table: f"cluster({quote_text(cluster)}, system.{table})"


_VERSION: Final = re.compile(r"\d+\.\d+")
_NAME: Final = r"(`(?:[^`\\]|\\.)+`|\w+)"
_TO: Final = re.compile(
    rf"CREATE MATERIALIZED VIEW {_NAME}\.{_NAME}(?: UUID '[^']*')? TO {_NAME}\.{_NAME}"
)
_NO_UUID: Final = "00000000-0000-0000-0000-000000000000"


def _view_target(view: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the database and the name of the table to which a view writes, or None."""
    if view["engine"] != "MaterializedView":
        return None
    match = _TO.match(view["create_table_query"])
    if match is not None:
        return unquote_name(match[3]), unquote_name(match[4])
    has_uuid = view["uuid"] != _NO_UUID
    inner = f".inner_id.{view['uuid']}" if has_uuid else f".inner.{view['name']}"
    return view["database"], inner


def _distributed_arguments(engine_full: str) -> list[str]:
    first = [text.strip("'") for text in call_arguments(engine_full)]
    return [unquote_name(text) for text in first[:3]] + first[3:4]


def version_problem(version: str) -> str | None:
    """Return why a version of ClickHouse cannot be used, or None."""
    if version_numbers(version) < OLDEST:
        return (
            f"ClickHouse {version} is older than {OLDEST[0]}.{OLDEST[1]}, the oldest version that "
            f"this store works with; install a newer version"
        )
    return None
