"""The example whose two stores, SQLite and ClickHouse, differ in one line."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.examples.programs import Program, example, rows, run_section, started
from tests.ports import free_port
from tests.required import skip
from tests.stores.clickhouse.real_server import RealServer, why_no_clickhouse

LINES = [{"path": f"/{number % 7}", "milliseconds": number} for number in range(1000)]
TRAFFIC = "SELECT path, requests, slowest FROM traffic {} ORDER BY path"
REQUESTS = (
    "SELECT path, milliseconds, count(*) FROM requests GROUP BY path, milliseconds ORDER BY 2"
)
EXPECTED_TRAFFIC = [
    (f"/{path}", len(times), max(times))
    for path in range(7)
    for times in [[number for number in range(1000) if number % 7 == path]]
]
EXPECTED_REQUESTS = [(f"/{number % 7}", number, 1) for number in range(1000)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """Return a ClickHouse for the tests of this file."""
    reason = why_no_clickhouse()
    if reason is not None:
        skip("clickhouse", reason)
    server = RealServer(tmp_path_factory.mktemp("clickhouse"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def clickhouse(server: RealServer) -> Iterator[RealServer]:
    """Return the server, without tables."""
    yield server
    for table in ("requests", "traffic"):
        server.execute(f"DROP TABLE IF EXISTS {table} SYNC")


@contextmanager
def collecting(folder: Path, *arguments: str) -> Iterator[tuple[Program, socket.socket]]:
    """Start the program, and connect to it."""
    with started(example("event_log.py", "--port", "0", *arguments), folder) as program:
        port = program.wait_for(r"listening at 127\.0\.0\.1 (\d+)")[1]
        with socket.create_connection(("127.0.0.1", int(port)), timeout=60) as client:
            yield program, client


def send(client: socket.socket, lines: list[dict[str, object]], more: bytes = b"") -> str:
    """Send lines and the end of the input, and return all that is answered."""
    client.sendall(b"".join(json.dumps(line).encode() + b"\n" for line in lines) + more)
    client.shutdown(socket.SHUT_WR)
    with client.makefile() as answer:
        return answer.read()


@pytest.mark.clickhouse
def test_the_readme(clickhouse: RealServer, tmp_path: Path) -> None:
    """The commands of the README print what it says."""
    port = str(free_port())
    replaced = {
        "http://127.0.0.1:8123": clickhouse.url,
        "event_log.py": f"event_log.py --port {port}",
        "8200": port,
    }
    run_section("SQLite to ClickHouse", tmp_path, replaced)


@pytest.mark.clickhouse
def test_both_stores_have_the_same_rows(clickhouse: RealServer, tmp_path: Path) -> None:
    """Each row is in its table when the program has ended after SIGTERM."""
    for arguments in ([], ["--clickhouse", clickhouse.url]):
        with collecting(tmp_path, *arguments) as (program, client):
            assert "accepted 1000, refused 0\n" == send(client, LINES)
            program.terminate()
    assert EXPECTED_TRAFFIC == rows(tmp_path / "events.db", TRAFFIC.format(""))
    assert EXPECTED_REQUESTS == rows(tmp_path / "events.db", REQUESTS)
    assert EXPECTED_TRAFFIC == list(map(tuple, clickhouse.query(TRAFFIC.format("FINAL"))))
    assert EXPECTED_REQUESTS == list(map(tuple, clickhouse.query(REQUESTS)))


@pytest.mark.clickhouse
def test_a_server_that_crashes_costs_no_row(clickhouse: RealServer, tmp_path: Path) -> None:
    """Rows that arrive while it is down are delivered by the next run, each exactly once."""
    arguments = ["--clickhouse", clickhouse.url]
    with collecting(tmp_path, *arguments) as (program, client):
        clickhouse.kill()
        assert "accepted 500, refused 0\n" == send(client, LINES[:500])
        program.terminate()
    clickhouse.start()
    with collecting(tmp_path, *arguments) as (program, client):
        assert "accepted 500, refused 0\n" == send(client, LINES[500:])
        program.terminate()
    assert EXPECTED_TRAFFIC == list(map(tuple, clickhouse.query(TRAFFIC.format("FINAL"))))
    assert EXPECTED_REQUESTS == list(map(tuple, clickhouse.query(REQUESTS)))


def test_a_malformed_line_is_answered(tmp_path: Path) -> None:
    """The answer has its number. The lines around it are accepted; one without an end is not."""
    good = {"path": "/", "milliseconds": 1}
    bad: list[dict[str, object]] = [
        good,
        {"path": "/", "milliseconds": -1},
        {"path": "/"},
        {"path": "\ud800", "milliseconds": 1},
        good,
    ]
    with collecting(tmp_path) as (program, client):
        *errors, summary = send(client, bad, b'{"path": "/",').splitlines()
        program.terminate()
    assert ["line 2", "line 3", "line 4"] == [error.partition(":")[0] for error in errors]
    assert "accepted 2, refused 4" == summary
    assert [("/", 2, 1)] == rows(tmp_path / "events.db", TRAFFIC.format(""))


def test_a_line_that_does_not_end_is_refused(tmp_path: Path) -> None:
    """The connection is closed before the line fills the memory."""
    with collecting(tmp_path) as (program, client):
        client.sendall(b"x" * 100_000)
        with client.makefile() as answer:
            assert "the line is too long\n" == answer.readline()
        program.terminate()


def test_sigterm_commits_what_an_open_connection_sent(tmp_path: Path) -> None:
    """The program does not wait for the client."""
    with collecting(tmp_path) as (program, client):
        client.sendall(b'{"path": "/", "milliseconds": 5}\nnot JSON\n')
        with client.makefile() as answer:
            assert answer.readline().startswith("line 2")  # so line 1 was accepted
            program.terminate()
    assert [("/", 1, 5)] == rows(tmp_path / "events.db", TRAFFIC.format(""))
