"""`open_clickhouse`: its arguments, the password, and the owner of the spool."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import ssl
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio
from click.testing import CliRunner, Result

from forebay import BufferOptions, DrainError, Index, SchemaError, StoreError, Table, open_buffers
from forebay._format import FORMAT
from forebay.cli._command import command
from forebay.stores.clickhouse import open_clickhouse
from forebay.stores.clickhouse._client import INSERT_SETTINGS
from forebay.stores.clickhouse._opening import PASSWORD_VARIABLE
from tests.stores.clickhouse.real_server import RealServer, running
from tests.stores.clickhouse.tools import Line, lines, open_store

SECRET = "s3cret-and-long"  # noqa: S105  # of a server on loopback

USERS = """
<clickhouse>
  <users>
    <default>
      <password></password>
      <networks><ip>::/0</ip></networks>
      <profile>default</profile><quota>default</quota>
    </default>
    <writer>
      <password>{password}</password>
      <networks><ip>::/0</ip></networks>
      <profile>default</profile><quota>default</quota>
    </writer>
  </users>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
</clickhouse>
"""
CONFIG = """
<clickhouse>
  <user_directories><users_xml><path>{users}</path></users_xml></user_directories>
  <query_log><database>system</database><table>query_log</table></query_log>
</clickhouse>
"""


@pytest.fixture(scope="module")
def locked_server(
    tmp_path_factory: pytest.TempPathFactory, running_server: RealServer
) -> Iterator[RealServer]:
    """Return a server whose user has a password, and that logs queries."""
    folder = tmp_path_factory.mktemp("locked")
    (folder / "users.xml").write_text(USERS.format(password=SECRET))
    (folder / "config.xml").write_text(CONFIG.format(users=folder / "users.xml"))
    with running(folder, f"--config-file={folder / 'config.xml'}") as server:
        yield server


@pytest.mark.parametrize("source", ["argument", "file", "environment"])
async def test_the_password_has_three_sources_and_is_never_shown(
    locked_server: RealServer,
    tmp_path: Path,
    source: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is not in logs, in the store's text, in its attributes or statistics, or in the spool."""
    options: dict[str, Any] = {"user": "writer"}
    if source == "argument":
        options["password"] = SECRET
    elif source == "file":
        (tmp_path / "password").write_text(f"{SECRET}\n")
        options["password_file"] = tmp_path / "password"
    else:
        monkeypatch.setenv("FOREBAY_CLICKHOUSE_PASSWORD", SECRET)
    caplog.set_level(logging.DEBUG)
    async with (
        open_store(locked_server, "default", tmp_path, lines, **options) as store,
        open_buffers(store, lines) as buffers,
    ):
        await buffers[lines].write(Line("x", 1))
        await store.delivered()
        texts = [repr(store), str(store.attributes), str(store.statistics()), caplog.text]
    texts.append((tmp_path / "app.spool.db").read_bytes().decode("latin-1"))
    assert [] == [text for text in texts if SECRET in text]


async def test_each_setting_of_an_insert_is_in_force(
    locked_server: RealServer, tmp_path: Path
) -> None:
    """ClickHouse's own log has those that are not the default; it has no password."""
    options = {"user": "writer", "password": SECRET}
    async with (
        open_store(locked_server, "default", tmp_path, lines, **options) as store,
        open_buffers(store, lines) as buffers,
    ):
        await buffers[lines].write(Line("x", 1))
        await store.delivered()
    locked_server.execute("SYSTEM FLUSH LOGS")
    defaults = dict(locked_server.query("SELECT name, value FROM system.settings"))
    [[changed]] = locked_server.query(
        "SELECT Settings FROM system.query_log WHERE type = 'QueryFinish' AND user = 'writer'"
        " AND query LIKE 'INSERT INTO `default`.`lines` %' ORDER BY event_time_microseconds DESC"
        " LIMIT 1"
    )
    sent = {**INSERT_SETTINGS, "deduplicate_insert": "enable"}
    del sent["wait_end_of_query"]  # of the HTTP interface, not of the query
    assert sent == {name: {**defaults, **changed}[name] for name in sent}
    assert 32 == len(changed["insert_deduplication_token"])
    assert [[0]] == locked_server.query(
        f"SELECT count() FROM system.query_log WHERE query LIKE '%{SECRET[:7]}%{SECRET[7:]}%'"
    )


async def test_a_wrong_password_is_refused_without_showing_it(
    locked_server: RealServer, tmp_path: Path
) -> None:
    """The server's error is raised when the store opens, and says where a password belongs."""
    wrong = {"user": "writer", "password": SECRET[::-1]}
    with pytest.raises(StoreError, match="AUTHENTICATION_FAILED") as refused:
        async with open_store(locked_server, "default", tmp_path, lines, **wrong):
            pass
    assert SECRET[::-1] not in str(refused.value)
    assert PASSWORD_VARIABLE in str(refused.value)


async def test_a_retry_with_a_wrong_password_says_so_at_once(
    locked_server: RealServer, tmp_path: Path
) -> None:
    """The code of the server and what to do, also in the list; nothing is lost."""
    options: dict[str, Any] = {"user": "writer", "password": SECRET, "insert_interval": 3600.0}
    async with (
        open_store(
            locked_server, "default", tmp_path, lines, delivery_timeout=0.0, **options
        ) as store,
        open_buffers(store, lines) as buffers,
    ):
        await buffers[lines].write(Line("x", 1))
        await buffers[lines].write(Line("x", 2))
        waiting = store.statistics().waiting
    spool = str(tmp_path / "app.spool.db")
    (tmp_path / "password").write_text(SECRET[::-1])
    login = ["--user", "writer", "--password-file", str(tmp_path / "password")]

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(command, ["spool", *arguments])

    retried = await trio.to_thread.run_sync(
        partial(run, "retry", spool, "--timeout", "86400", *login)
    )
    assert 1 == retried.exit_code, retried.output
    assert "Code: 516" in retried.stderr
    assert "--password-file" in retried.stderr
    assert SECRET[::-1] not in retried.output
    listed = json.loads((await trio.to_thread.run_sync(run, "list", spool, "--json")).stdout)
    assert "516" == listed["blocks"][0]["error_code"]
    assert 0 < listed["tables"]["lines"]["entries"] <= waiting


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"url": "https://user:hidden@ch.example.com"}, "url"),
        ({"url": "https://ch.example.com/?password=hidden"}, "url"),
        ({"url": "ch.example.com:8443"}, "url"),
        ({"spool_bytes": 0}, "spool_bytes"),
        ({"synchronous": "OFF"}, "synchronous"),
        ({"compression": "lz4"}, "compression"),
        ({"request_timeout": 0.0}, "request_timeout"),
        ({"delivery_timeout": float("inf")}, "delivery_timeout"),
        ({"insert_interval": -1.0}, "insert_interval"),
        ({"password": "a", "password_file": "b"}, "password"),
        ({"user": "a:b"}, "user"),
        ({"password": "hidden\ud800"}, "password"),
        ({"verify": "authorities.pem"}, "verify"),
        ({"verify": ssl.create_default_context()}, "verify"),
        ({"start_timeout": 0.0}, "start_timeout"),
    ],
)
async def test_an_argument_is_checked_where_it_enters(
    tmp_path: Path, options: dict[str, Any], name: str
) -> None:
    """The error has the name of the argument; a URL, which may contain a password, is not shown."""
    options = {"url": "http://127.0.0.1:1", "spool": tmp_path / "s.db", **options}
    url = options.pop("url")
    with pytest.raises((TypeError, ValueError), match=name) as refused:
        async with open_clickhouse(url, **options):
            pass
    assert "hidden" not in str(refused.value)
    assert not (tmp_path / "s.db").exists()


async def test_a_spool_has_one_owner_and_one_server(
    server: RealServer, database: str, tmp_path: Path
) -> None:
    """The spool of a running program, or with rows for another database, is refused."""
    async with (
        open_store(server, database, tmp_path, lines) as store,
        open_buffers(store, lines) as buffers,
    ):
        await buffers[lines].write(Line("x", 1))
        await store.delivered()
        assert 0o600 == (tmp_path / "app.spool.db").stat().st_mode & 0o777
        with pytest.raises(StoreError, match="another program"):
            async with open_store(server, database, tmp_path):
                pass
    server.kill()
    try:
        async with (
            open_store(server, database, tmp_path, delivery_timeout=0.0) as store,
            open_buffers(store, lines) as buffers,
        ):
            await buffers[lines].write(Line("x", 2))
        with pytest.raises(StoreError, match="for database"):
            async with open_store(server, "default", tmp_path):
                pass
    finally:
        server.start()
    async with open_store(server, database, tmp_path):
        pass
    async with open_store(server, "default", tmp_path):
        pass  # an empty spool may be for another server


@pytest.mark.parametrize("kind", ["a database", "no database", "a newer format"])
async def test_a_file_that_is_no_spool_is_refused(tmp_path: Path, kind: str) -> None:
    """It is not changed."""
    path = tmp_path / "app.spool.db"
    if kind == "no database":
        path.write_bytes(b"text" * 1000)
    else:
        with closing(sqlite3.connect(path)) as raw:
            raw.execute("CREATE TABLE forebay_format (version INTEGER NOT NULL)")
            raw.execute(f"INSERT INTO forebay_format VALUES ({FORMAT + 1})")
            if kind == "a newer format":
                raw.execute(f"PRAGMA application_id = {0x666F7265}")
            raw.commit()
    before = path.read_bytes()
    with pytest.raises(StoreError):
        async with open_clickhouse("http://127.0.0.1:1", spool=path):
            pass
    assert before == path.read_bytes()


@pytest.mark.parametrize("kept", [3_000, 4_096])
async def test_a_damaged_spool_is_refused_with_what_to_do(tmp_path: Path, kept: int) -> None:
    """It may be cut within its first page, or after it."""
    path = tmp_path / "app.spool.db"
    async with open_clickhouse("http://127.0.0.1:1", spool=path):
        pass
    os.truncate(path, kept)
    with pytest.raises(StoreError, match=r"\.recover"):
        async with open_clickhouse("http://127.0.0.1:1", spool=path):
            pass
    assert kept == path.stat().st_size


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """It is not created, since the path may be wrong."""
    folder = tmp_path / "missing"
    with pytest.raises(FileNotFoundError, match="create it") as refused:
        async with open_clickhouse("http://127.0.0.1:1", spool=folder / "s.db"):
            pass
    assert str(folder) == refused.value.filename


async def test_a_table_that_was_never_checked_needs_the_server(tmp_path: Path) -> None:
    """A program cannot start for the first time during an outage."""
    with pytest.raises(StoreError, match="does not answer"):
        async with (
            open_clickhouse("http://127.0.0.1:1", spool=tmp_path / "s.db") as store,
            open_buffers(store, lines),
        ):
            pass


class Owned(NamedTuple):
    key: str
    owner: str


@pytest.mark.parametrize(
    "options", [{"delete_by": "owner"}, {"indexes": [Index("owner", unique=True)]}]
)
async def test_a_declaration_that_clickhouse_cannot_keep_is_refused(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    """Such as a delete by another column, which ClickHouse cannot execute in order."""
    table = Table(Owned, name="owned", key="key", **options)
    with pytest.raises(SchemaError):
        async with open_clickhouse("http://127.0.0.1:1", spool=tmp_path / "s.db", create=[table]):
            pass


async def test_a_full_spool_pushes_back_and_loses_nothing(
    server: RealServer, database: str, tmp_path: Path
) -> None:
    """The flush waits as for a locked database; a drain names what is not in the spool."""
    async with open_store(server, database, tmp_path, lines) as store:
        await store.prepare([lines])
    server.kill()
    try:
        options = BufferOptions(drain_timeout=0.1)
        async with open_store(
            server, database, tmp_path, spool_bytes=1, delivery_timeout=0.0
        ) as store:
            with pytest.raises(DrainError) as left:
                async with open_buffers(store, lines, options=options) as buffers:
                    await buffers[lines].write(Line("x", 1))
                    await buffers[lines].enqueue(Line("x", 2))
            assert "SPOOL_FULL" == getattr(left.value.unsettled["lines"].last_error, "code", None)
            assert 1 == left.value.unsettled["lines"].count
            assert 1 == store.statistics().waiting
    finally:
        server.start()
    async with open_store(server, database, tmp_path):
        pass
    assert [["x", 1]] == server.query(f"SELECT * FROM {database}.lines")


async def test_an_error_of_the_body_is_raised_as_it_is(
    server: RealServer, database: str, tmp_path: Path
) -> None:
    """It is not in a group, and what was spooled is delivered all the same."""
    with pytest.raises(ZeroDivisionError):
        async with (
            open_store(server, database, tmp_path, lines) as store,
            open_buffers(store, lines) as buffers,
        ):
            await buffers[lines].enqueue(Line("x", 1))
            raise ZeroDivisionError
    assert [["x", 1]] == server.query(f"SELECT * FROM {database}.lines")
