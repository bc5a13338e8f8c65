"""Older versions of ClickHouse: the tables of `create=`, the checks, and how blocks are inserted.

chdb runs ClickHouse in this process, without HTTP. `nox -s clickhouse-versions` installs chdb.
"""

from __future__ import annotations

import enum
import importlib
import importlib.util
import json
import re
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from forebay import FlushReason, Keep, Max, Min, Replace, SchemaError, Sum, Table
from forebay._batching.coalesce import Coalescer
from forebay._table.operations import Delete
from forebay.stores.clickhouse._client import INSERT_SETTINGS
from forebay.stores.clickhouse._declared import CreateOptions, create_sql
from forebay.stores.clickhouse._encoder import BlockEncoder
from forebay.stores.clickhouse._failures import ServerError
from forebay.stores.clickhouse._inspection import OLDEST, Inspector, version_problem
from forebay.stores.clickhouse._schema import check_functions, check_table, describe_types
from tests.required import skip
from tests.stores.clickhouse.tools import lines

pytestmark = pytest.mark.chdb

OPTIONS = CreateOptions()


class Color(enum.Enum):
    RED = "red"


class Page(NamedTuple):
    url: str
    status: float
    body: bytes
    is_new: bool
    seen: datetime
    day: date | None
    id: UUID
    price: Decimal
    color: Color


class Count(NamedTuple):
    name: str
    total: int
    low: float | None
    high: int
    first: str
    last: str


class Profile(NamedTuple):
    name: str
    first: str | None
    last: str | None


pages = Table(Page, name="pages", key="url")
counts = Table(
    Count,
    name="counts",
    key="name",
    merge={"total": Sum, "low": Min, "high": Max, "first": Keep, "last": Replace},
)
profiles = Table(Profile, name="profiles", key="name", merge={"first": Keep, "last": Replace})

PAGE = (1.5, b"\0\xff", True, "2026-01-02 03:04:05.678901+00:00", "2026-01-02", str(UUID(int=7)))
WRITTEN: list[tuple[Table[Any], list[list[Any]], str]] = [
    (lines, [[("a", 1), ("b", None), ("b", None)]], "a,1 b,N b,N"),
    (
        pages,
        [[("/", *PAGE, "1.5", "red"), ("/x", *PAGE, "2", "red")], [Delete("/x")]],
        f"/,1.5,00FF,true,{PAGE[3][:26]},{PAGE[4]},{PAGE[5]},1.5,red,1,0",
    ),
    (
        counts,
        [[("n", 1, 1.5, 2, "f", "l")], [("n", 2, None, 1, "g", "m")]],
        "n,3,1.5,2,f,m",
    ),
]


class InProcess:
    """A client of ClickHouse in this process."""

    user = "default"

    def __init__(self, folder: Path) -> None:
        sessions: Any = importlib.import_module("chdb.session")
        self._session = sessions.Session(str(folder))

    def execute(self, sql: str, output: str = "TSV") -> str:
        try:
            return str(self._session.query(sql, output))
        except Exception as error:  # each version has a class of its own
            code = re.search(r"Code: (\d+)", str(error))
            if code is None:
                raise
            raise ServerError(int(code[1]), str(error)) from error

    async def query(self, sql: str, *, timeout: float) -> list[dict[str, Any]]:  # noqa: ASYNC109  # as Client.query
        settings = " SETTINGS output_format_json_quote_64bit_integers = 0"
        rows: list[dict[str, Any]] = json.loads(self.execute(sql + settings, "JSON"))["data"]
        return rows


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> InProcess:
    """Return a client of an empty database `app`. A process can have one ClickHouse."""
    if importlib.util.find_spec("chdb") is None:
        skip("chdb", "it is not installed, and nox -s clickhouse-versions installs it")
    found = InProcess(tmp_path_factory.mktemp("chdb"))
    found.execute("CREATE DATABASE app ENGINE = Atomic")
    return found


async def test_the_version_is_not_too_old(client: InProcess) -> None:
    """Its settings and statements are those of the tests below."""
    version = await Inspector(client, timeout=1).version()  # type: ignore[arg-type]
    assert version_problem(version) is None
    assert OLDEST <= tuple(map(int, version.split(".")[:2])) < (26, 2)


@pytest.mark.parametrize(
    ("table", "batches", "expected"), WRITTEN, ids=[table.name for table, _, _ in WRITTEN]
)
async def test_a_created_table_passes_the_checks_and_has_each_block_once(
    client: InProcess,
    tmp_path: Path,
    table: Table[Any],
    batches: list[list[Any]],
    expected: str,
) -> None:
    """Each block is inserted twice with its token and the settings that the store sends."""
    inspector = Inspector(client, timeout=1)  # type: ignore[arg-type]
    await check_functions(table, inspector)
    client.execute(create_sql("app", table, OPTIONS))
    found = await inspector.find("app", table.name)
    check_table("app", table, found, OPTIONS, longest_outage=3600)
    encoder = BlockEncoder(table, "app", describe_types(table, found.columns), stored=True)
    sent = {**INSERT_SETTINGS}
    del sent["wait_end_of_query"]  # a parameter of HTTP
    settings = ", ".join(f"{name} = {value}" for name, value in sent.items())
    into = encoder.sql.removesuffix(" FORMAT Native")
    for version, entries in enumerate(batches, 1):
        coalescer = Coalescer(table)
        coalescer.add(entries, only_rows=all(isinstance(entry, tuple) for entry in entries))
        [block] = encoder.encode(coalescer.take(FlushReason.FULL), version)
        file = tmp_path / f"{version}.native"
        file.write_bytes(block.to_bytes())
        for _ in range(2):
            client.execute(
                f"{into} SETTINGS {settings}, insert_deduplication_token = 'block {version}'"
                f" SELECT * FROM file('{file}', Native)"
            )
    columns = ", ".join(f"hex({name})" if name == "body" else name for name in found.columns)
    final = " FINAL" if table.key else ""
    rows = client.execute(f"SELECT {columns} FROM app.{table.name}{final} ORDER BY 1")
    assert expected == rows.strip().replace("\t", ",").replace("\n", " ").replace("\\N", "N")


async def test_a_merge_that_would_drop_null_is_refused(client: InProcess) -> None:
    """These versions have no function for it in a SimpleAggregateFunction."""
    with pytest.raises(SchemaError, match="respect_nulls"):
        await check_functions(profiles, Inspector(client, timeout=1))  # type: ignore[arg-type]
