"""The checks of a table in ClickHouse, on a real server: what is refused, and what corrects it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from forebay import Max, SchemaError, Table
from forebay.stores.clickhouse._client import Client
from forebay.stores.clickhouse._declared import CreateOptions, create_sql
from forebay.stores.clickhouse._inspection import Inspector, version_problem
from forebay.stores.clickhouse._schema import check_table
from tests.stores.clickhouse.real_server import RealServer
from tests.stores.clickhouse.tools import Count, counts, lines


class Page(NamedTuple):
    url: str
    site: str
    status: int | None


pages = Table(Page, name="pages", key=("url", "site"))
TABLES: list[Table[Any]] = [lines, pages, counts]
OPTIONS = CreateOptions()


async def check(server: RealServer, database: str, table: Table[Any]) -> None:
    async with Client(
        server.url, user="default", password="", verify=True, connect_timeout=10
    ) as client:
        found = await Inspector(client, timeout=30).find(database, table.name)
    check_table(database, table, found, OPTIONS, longest_outage=3600)


@pytest.mark.parametrize("table", TABLES)
async def test_a_created_table_passes_the_checks(
    server: RealServer, database: str, table: Table[Any]
) -> None:
    """A missing table is refused with the statement that creates it, and what it creates passes."""
    with pytest.raises(SchemaError) as refused:
        await check(server, database, table)
    assert create_sql(database, table, OPTIONS) == refused.value.sql
    server.execute(refused.value.sql)
    await check(server, database, table)


REPLACING = "ReplacingMergeTree(_version, _deleted) ORDER BY (url, site)"
WINDOW = "SETTINGS non_replicated_deduplication_window = 10000"
NULLABLE_KEY = f"{WINDOW}, allow_nullable_key = 1"
PAGE = "url String, site String, status Nullable(Int64)"
VERSIONED = f"{PAGE}, _version UInt64, _deleted UInt8"
COUNT = (
    "name String, total SimpleAggregateFunction(sum, Int64),"
    " low SimpleAggregateFunction(min, Nullable(Float64)),"
    " high SimpleAggregateFunction(max, Int64),"
    " first SimpleAggregateFunction(any, String)"
)
LAST = "last SimpleAggregateFunction(anyLast_respect_nulls, Nullable(String))"

WRONG: list[tuple[str, Table[Any], str, str]] = [
    ("no window", lines, "text String, size Nullable(Int64)", "MergeTree ORDER BY ()"),
    (
        "a short window",
        lines,
        "text String, size Nullable(Int64)",
        "MergeTree ORDER BY () SETTINGS non_replicated_deduplication_window = 100",
    ),
    ("not nullable", lines, "text String, size Int64", f"MergeTree ORDER BY () {WINDOW}"),
    ("a missing column", lines, "text String", f"MergeTree ORDER BY () {WINDOW}"),
    (
        "no encoding",
        lines,
        "text String, size Nullable(Float64)",
        f"MergeTree ORDER BY () {WINDOW}",
    ),
    (
        "a column that is computed",
        lines,
        "text String, size Nullable(Int64) MATERIALIZED 1",
        f"MergeTree ORDER BY () {WINDOW}",
    ),
    ("another engine", pages, VERSIONED, f"MergeTree ORDER BY (url, site) {WINDOW}"),
    ("no version", pages, PAGE, f"ReplacingMergeTree ORDER BY (url, site) {WINDOW}"),
    (
        "no tombstones",
        pages,
        f"{PAGE}, _version UInt64",
        f"ReplacingMergeTree(_version) ORDER BY (url, site) {WINDOW}",
    ),
    (
        "another order",
        pages,
        VERSIONED,
        f"ReplacingMergeTree(_version, _deleted) ORDER BY url {WINDOW}",
    ),
    (
        "a partition that splits keys",
        pages,
        VERSIONED,
        f"{REPLACING.replace('ORDER', 'PARTITION BY status ORDER')} {NULLABLE_KEY}",
    ),
    (
        "a key that is nullable",
        pages,
        VERSIONED.replace("url String", "url Nullable(String)"),
        f"{REPLACING} {NULLABLE_KEY}",
    ),
    ("a column that a write resets", pages, f"{VERSIONED}, note String", f"{REPLACING} {WINDOW}"),
    (
        "another merge function",
        counts,
        f"{COUNT.replace('sum', 'max')}, {LAST}",
        f"AggregatingMergeTree ORDER BY name {WINDOW}",
    ),
    (
        "a function that skips NULL",
        counts,
        f"{COUNT}, {LAST.replace('_respect_nulls', '')}",
        f"AggregatingMergeTree ORDER BY name {WINDOW}",
    ),
    (
        "no merge function",
        counts,
        f"{COUNT}, last Nullable(String)",
        f"AggregatingMergeTree ORDER BY name {WINDOW}, allow_dimensions_outside_sorting_key = 1",
    ),
]


@pytest.mark.parametrize(
    ("table", "columns", "engine"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG]
)
async def test_what_breaks_the_contract_is_refused_with_what_corrects_it(
    server: RealServer, database: str, table: Table[Any], columns: str, engine: str
) -> None:
    """The statements of the error make the table pass."""
    server.execute(f"CREATE TABLE {database}.{table.name} ({columns}) ENGINE = {engine}")
    with pytest.raises(SchemaError) as refused:
        await check(server, database, table)
    assert table.name == refused.value.table
    assert refused.value.sql is not None
    for statement in refused.value.sql.split(";"):
        if statement.strip():
            server.execute(statement)
    await check(server, database, table)


async def correct(server: RealServer, database: str, table: Table[Any]) -> None:
    """Execute the statements of the error."""
    with pytest.raises(SchemaError) as refused:
        await check(server, database, table)
    assert refused.value.sql is not None
    for statement in filter(str.strip, refused.value.sql.split(";")):
        server.execute(statement)
    await check(server, database, table)


@pytest.mark.parametrize(
    ("order", "rows"),
    [
        # More than the key: the latest version counts, and a delete, whatever the order was.
        (
            "(url, site, ifNull(status, 0))",
            [
                "('a', 's', 200, 1, 0), ('a', 's', 500, 2, 0), ('gone', 's', 7, 1, 0)",
                "('gone', 's', NULL, 2, 1)",
            ],
        ),
        # Less than the key, as of an earlier declaration: its deletes know less than the key.
        (
            "url",
            [
                "('a', 'old', 200, 1, 0), ('gone', 's', 7, 1, 0)",
                "('a', 's', 500, 2, 0), ('gone', '', NULL, 2, 1)",
            ],
        ),
    ],
    ids=["more than the key", "less than the key"],
)
async def test_a_table_made_anew_has_the_rows_of_the_old_one(
    server: RealServer, database: str, order: str, rows: list[str]
) -> None:
    """Replaced and deleted rows do not return, also if the old table has not merged them."""
    server.execute(
        f"CREATE TABLE {database}.pages (url String, site String, status Nullable(Int64),"
        f" _version UInt64, _deleted UInt8)"
        f" ENGINE = ReplacingMergeTree(_version, _deleted) ORDER BY {order} {WINDOW}"
    )
    server.execute(f"SYSTEM STOP MERGES {database}.pages")
    for values in rows:
        server.execute(f"INSERT INTO {database}.pages VALUES {values}")
    await correct(server, database, pages)
    found = server.execute(f"SELECT url, site, status FROM {database}.pages FINAL FORMAT Values")
    assert "('a','s',500)" == found.strip()


async def test_a_table_made_anew_has_the_sums_of_the_old_one(
    server: RealServer, database: str
) -> None:
    """Rows that the old table has not added up yet are added up for the new one."""
    server.execute(create_sql(database, counts, OPTIONS))
    server.execute(f"SYSTEM STOP MERGES {database}.counts")
    for total in (1, 2, 3):
        server.execute(
            f"INSERT INTO {database}.counts (name, total, first) VALUES ('a', {total}, 'x')"
        )
    await correct(server, database, Table(Count, name="counts", key="name"))
    found = server.execute(f"SELECT name, total FROM {database}.counts FINAL FORMAT Values")
    assert "('a',6)" == found.strip()


async def test_the_statements_never_use_a_table_that_an_earlier_correction_left(
    server: RealServer, database: str
) -> None:
    """It has other rows, which the exchange would bring back."""
    server.execute(f"CREATE TABLE {database}.pages_new (url String) ENGINE = Memory")
    server.execute(
        f"CREATE TABLE {database}.pages (url String, site String, status Nullable(Int64))"
        f" ENGINE = MergeTree ORDER BY url {WINDOW}"
    )
    with pytest.raises(SchemaError) as refused:
        await check(server, database, pages)
    create, *_ = (refused.value.sql or "").split(";")
    with pytest.raises(AssertionError, match="TABLE_ALREADY_EXISTS"):
        server.execute(create)


@pytest.mark.parametrize("to", ["inner", "another table"])
async def test_the_target_of_a_view_needs_a_window(
    server: RealServer, database: str, to: str
) -> None:
    """A block that is sent again must not be twice in the view either."""
    server.execute(create_sql(database, lines, OPTIONS))
    if to == "inner":
        target = "ENGINE = SummingMergeTree ORDER BY text"
    else:
        server.execute(
            f"CREATE TABLE {database}.sizes (text String, total Int64)"
            f" ENGINE = SummingMergeTree ORDER BY text"
        )
        target = f"TO {database}.sizes"
    server.execute(
        f"CREATE MATERIALIZED VIEW {database}.by_text {target} AS SELECT text,"
        f" toInt64(count()) AS total FROM {database}.lines GROUP BY text"
    )
    with pytest.raises(SchemaError) as refused:
        await check(server, database, lines)
    assert refused.value.sql is not None
    server.execute(refused.value.sql.rstrip(";"))
    await check(server, database, lines)


@pytest.mark.parametrize(
    ("window", "seconds", "is_refused"),
    [(10_000, 3_600, False), (10_000, 3_599, True), (3_599, 7_200, True), (0, 7_200, True)],
)
async def test_a_replicated_table_must_remember_tokens_for_the_longest_outage(
    server: RealServer, database: str, window: int, seconds: int, is_refused: bool
) -> None:
    """Replicas need Keeper, which the tests do not have: the windows take the place of theirs."""
    server.execute(create_sql(database, lines, OPTIONS))
    async with Client(
        server.url, user="default", password="", verify=True, connect_timeout=10
    ) as client:
        found = await Inspector(client, timeout=30).find(database, "lines")
    [part] = found.parts
    found = replace(found, parts=[replace(part, window=window, window_seconds=seconds)])
    if not is_refused:
        check_table(database, lines, found, OPTIONS, longest_outage=3600)
        return
    with pytest.raises(SchemaError) as refused:
        check_table(database, lines, found, OPTIONS, longest_outage=3600)
    assert refused.value.sql is not None
    assert "MODIFY SETTING replicated_deduplication_window = 10000" in refused.value.sql
    assert "replicated_deduplication_window_seconds" in refused.value.sql


async def test_other_columns_of_a_table_without_a_key_are_allowed(
    server: RealServer, database: str
) -> None:
    """The server fills them; and a keyed table may have columns with a default."""
    server.execute(
        f"CREATE TABLE {database}.lines (at DateTime DEFAULT now(), text LowCardinality(String),"
        f" size Nullable(Int128), note String) ENGINE = MergeTree ORDER BY at {WINDOW}"
    )
    await check(server, database, lines)
    server.execute(
        f"CREATE TABLE {database}.pages ({VERSIONED}, at DateTime DEFAULT now()) "
        f"ENGINE = ReplacingMergeTree(_version, _deleted) PARTITION BY site"
        f" ORDER BY (site, url) {WINDOW}"
    )
    await check(server, database, pages)


def test_names_and_options_are_in_the_created_table() -> None:
    """Names are quoted; replicated tables have the windows of their engine."""
    table = Table.from_columns(
        {"a`b": str, "max": int | None}, name="t`x", key="a`b", merge={"max": Max}
    )
    options = CreateOptions(replicated=True, cluster="main", window=7, window_seconds=8)
    assert (
        "CREATE TABLE IF NOT EXISTS `d`.`t\\`x` ON CLUSTER `main` (\n"
        "    `a\\`b` String,\n"
        "    `max` SimpleAggregateFunction(max, Nullable(Int64))\n"
        ") ENGINE = ReplicatedAggregatingMergeTree\nORDER BY (`a\\`b`)\n"
        "SETTINGS replicated_deduplication_window = 7,"
        " replicated_deduplication_window_seconds = 8"
    ) == create_sql("d", table, options)


@pytest.mark.parametrize(
    ("version", "is_refused"),
    [("18.16.1", True), ("24.7.9.1", True), ("24.8.4.13", False), ("26.7.2.1", False)],
)
def test_a_server_that_is_too_old_is_refused(version: str, is_refused: bool) -> None:
    """Before 24.8 the deduplication of blocks in views was another one."""
    assert is_refused == (version_problem(version) is not None)
