"""A user with no rights but those that the docs name, and views that such a user cannot see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from forebay import SchemaError, StoreError, open_buffers
from forebay.stores.clickhouse import ClickHouseStore
from forebay.stores.clickhouse._declared import CreateOptions, create_sql
from tests.stores.clickhouse.real_server import RealServer
from tests.stores.clickhouse.tools import Line, lines, open_store

USER = "writer"
CONFIG = """
<clickhouse>
  <user_directories><users_xml><path>{folder}/config.xml</path></users_xml></user_directories>
  <users>
    <default>
      <password></password><networks><ip>::/0</ip></networks>
      <profile>default</profile><quota>default</quota>
    </default>
    <writer>
      <password></password><networks><ip>::/0</ip></networks>
      <profile>default</profile><quota>default</quota>
      <grants>{grants}</grants>
    </writer>
  </users>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
</clickhouse>
"""
RIGHTS = ("GRANT INSERT ON app.*", "GRANT SELECT ON system.merge_tree_settings")
"""The rights that the docs name."""

VIEW = "CREATE MATERIALIZED VIEW {view} TO {target} AS SELECT text, 1 AS rows FROM {source}"
TARGET = (
    "CREATE TABLE {target} (text String, rows UInt64) ENGINE = SummingMergeTree ORDER BY text"
    " SETTINGS non_replicated_deduplication_window = 10000"
)


class ServerWithUser:
    """A server with a user who has some rights. It starts anew when these change."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.grants: list[str] = []
        self.server = RealServer(folder, f"--config-file={folder / 'config.xml'}")

    def grant(self, *statements: str) -> None:
        self.grants += [statement.partition(" TO ")[0] for statement in statements]
        queries = "".join(f"<query>{statement}</query>" for statement in self.grants)
        text = CONFIG.format(folder=self._folder, grants=queries)
        (self._folder / "config.xml").write_text(text)
        self.server.kill()
        self.server.start()


@pytest.fixture
def restricted(
    tmp_path: Path,
    running_server: RealServer,  # the tests need a server
) -> Iterator[ServerWithUser]:
    """Return a server with a table, and with a user who has the rights of the docs."""
    folder = tmp_path / "server"
    folder.mkdir()
    found = ServerWithUser(folder)
    try:
        found.grant(*RIGHTS)
        found.server.execute("CREATE DATABASE app")
        found.server.execute(create_sql("app", lines, CreateOptions()))
        yield found
    finally:
        found.server.kill()


async def write_a_line(server: RealServer, folder: Path) -> ClickHouseStore:
    async with (
        open_store(server, "app", folder, user=USER) as store,
        open_buffers(store, lines) as buffers,
    ):
        await buffers[lines].write(Line("x", 1))
    return store


async def test_the_rights_of_the_docs_are_enough(
    restricted: ServerWithUser, tmp_path: Path
) -> None:
    """A user who can only insert writes rows."""
    store = await write_a_line(restricted.server, tmp_path)
    assert (1, {}) == (store.statistics().delivered, dict(store.statistics().retries))


async def test_a_missing_right_is_named(restricted: ServerWithUser, tmp_path: Path) -> None:
    """The error has the name of the right, in ClickHouse's words."""
    restricted.grants.remove(RIGHTS[1])
    restricted.grant()
    with pytest.raises(StoreError, match=r"grant SELECT.* ON system\.merge_tree_settings"):
        await write_a_line(restricted.server, tmp_path)


@pytest.mark.parametrize("view", ["other.`by text`", "app.by_text"])
async def test_a_view_that_the_user_cannot_see_is_refused(
    restricted: ServerWithUser, tmp_path: Path, view: str
) -> None:
    """If its target has no window, rows are there twice, in silence. The error has the GRANT."""
    server = restricted.server
    server.execute("CREATE DATABASE other")
    server.execute(TARGET.format(target="other.sizes"))
    server.execute(VIEW.format(view=view, target="other.sizes", source="app.lines"))
    restricted.grant("GRANT SELECT ON app.lines")  # which ClickHouse demands for the view
    hidden = ["by text", "sizes"] if view.startswith("other") else ["sizes"]
    for name in hidden:  # the target is looked up once the view is seen
        with pytest.raises(SchemaError) as refused:
            await write_a_line(server, tmp_path)
        assert refused.value.sql == f"GRANT SHOW TABLES ON `other`.`{name}` TO `{USER}`;"
        restricted.grant(refused.value.sql)
    await write_a_line(server, tmp_path)
    assert [["x", 1]] == server.query("SELECT text, rows FROM other.sizes")
