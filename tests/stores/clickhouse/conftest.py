"""A ClickHouse for the tests of its store: one for all tests of a process, a database for each."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.required import skip
from tests.stores.clickhouse.real_server import RealServer, running, why_no_clickhouse


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need the server."""
    for item in items:
        if "running_server" in getattr(item, "fixturenames", ()):
            item.add_marker("clickhouse")


@pytest.fixture(scope="session")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """Return the server of this process."""
    reason = why_no_clickhouse()
    if reason is not None:
        skip("clickhouse", reason)
    with running(tmp_path_factory.mktemp("clickhouse")) as server:
        yield server


@pytest.fixture
def server(running_server: RealServer) -> RealServer:
    """Return the running server."""
    return running_server


@pytest.fixture
def database(server: RealServer) -> Iterator[str]:
    """Return the name of a new database."""
    name = f"test_{uuid4().hex[:8]}"
    server.execute(f"CREATE DATABASE {name}")
    yield name
    server.execute(f"DROP DATABASE {name} SYNC")
