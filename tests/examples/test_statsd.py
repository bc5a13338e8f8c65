"""The example that exports its telemetry to a collector."""

from __future__ import annotations

import json
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.examples.programs import Program, example, rows, run_section, started
from tests.ports import free_port
from tests.telemetry.collector import Point, collector
from tests.waiting import TIMEOUT, wait_until

pytestmark = pytest.mark.rotel


class Running:
    """The running program, a client that sends it datagrams, and its statistics."""

    def __init__(self, program: Program, client: socket.socket, top: str) -> None:
        self.program = program
        self.client = client
        self._top = top

    def wait_until_accepted(self, entries: int) -> None:
        """Ask at the socket of `forebay top` until the program has accepted so many entries."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(TIMEOUT)
            asking.connect(self._top)
            with asking.makefile("rw") as lines:

                def accepted() -> int:
                    lines.write("\n")
                    lines.flush()
                    return int(json.loads(lines.readline())["buffers"]["counts"]["accepted"])

                wait_until(lambda: accepted() >= entries, f"{entries} are accepted", accepted)


@contextmanager
def counting(folder: Path, endpoint: str) -> Iterator[Running]:
    """Start the program in a folder."""
    with ExitStack() as stack:
        # The system limits the length of a socket's path.
        top = stack.enter_context(TemporaryDirectory()) + "/top"
        command = example("statsd.py", "--port", "0", "--top", top)
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
        program = stack.enter_context(started(command, folder, variables))
        port = program.wait_for(r"listening at udp://127\.0\.0\.1:(\d+)")[1]
        client = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        client.connect(("127.0.0.1", int(port)))
        yield Running(program, client, top)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the database, so that nothing is committed."""
    with closing(sqlite3.connect(folder / "statsd.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def outcomes(received: dict[str, list[Point]]) -> dict[str, float]:
    return {p.attributes["outcome"]: p.numbers["Value"] for p in received["statsd.lines"]}


def test_the_readme(tmp_path: Path) -> None:
    """The commands of the README print what it says."""
    with collector(tmp_path, signal="metrics") as running:
        ports = {
            "http://127.0.0.1:4317": running.grpc,
            "statsd.py": f"statsd.py --port {free_port()}",
        }
        port = ports["statsd.py"].split()[-1]
        run_section("Counters with telemetry", tmp_path, {**ports, "8125": port})
        running.wait_for("statsd.lines")


def test_the_collector_receives_metrics_of_the_program_and_of_the_drain(tmp_path: Path) -> None:
    """Lines are counted by outcome. The rows are committed by the drain, and exported after it."""
    with collector(tmp_path, signal="metrics") as running:
        with counting(tmp_path, running.grpc) as statsd:
            with locked(tmp_path):
                statsd.client.send(b"a:x|c\n\xff\n:1|c")
                statsd.client.send(b"a:1|c\nb:2|c\na:3|c\n")
                statsd.wait_until_accepted(3)
                statsd.program.process.terminate()
            assert 0 == statsd.program.wait(), statsd.program.output
        received = running.wait_for("statsd.lines")
    assert {"accepted": 3, "malformed": 3} == outcomes(received)
    [accepted] = received["forebay.entries.accepted"]
    [flushed] = received["forebay.rows.flushed"]
    assert (3, 2) == (accepted.numbers["Value"], flushed.numbers["Value"])
    events = rows(tmp_path / "statsd.db", "SELECT name, sum(events) FROM counts GROUP BY name")
    assert [("a", 4), ("b", 2)] == events


def test_lines_that_a_full_buffer_does_not_accept_are_counted(tmp_path: Path) -> None:
    """While the database is locked the buffer fills. Then lines are dropped, and nothing waits."""
    with collector(tmp_path, signal="metrics") as running:
        with counting(tmp_path, running.grpc) as statsd:
            with locked(tmp_path):
                for sent in range(10_000, 120_000, 10_000):
                    statsd.client.send(b"a:1|c\n" * 10_000)
                    statsd.wait_until_accepted(min(sent, 100_000))
            statsd.program.terminate()
        received = running.wait_for("statsd.lines")
    assert {"accepted": 100_000, "dropped": 10_000} == outcomes(received)
    assert [(100_000,)] == rows(tmp_path / "statsd.db", "SELECT sum(events) FROM counts")
