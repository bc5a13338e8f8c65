"""Exports from a program to a real collector, over gRPC and over HTTP, and to one that is down."""

from __future__ import annotations

import os
import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.telemetry.collector import Collector, collector

pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc", reason="needs forebay[otlp]")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs forebay[otlp]")

PROGRAM = Path(__file__).parent / "programs" / "exporting.py"


@pytest.fixture
def metrics_collector(tmp_path: Path) -> Iterator[Collector]:
    with collector(tmp_path, signal="metrics") as running:
        yield running


@pytest.fixture
def traces_collector(tmp_path: Path) -> Iterator[Collector]:
    with collector(tmp_path, signal="traces") as running:
        yield running


def environment(endpoint: str, protocol: str) -> dict[str, str]:
    """Return the variables of a program that exports; an empty endpoint counts as unset."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return {
        **kept,
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
    }


def run(
    database: Path | bytes, *, endpoint: str, protocol: str, shutdown_timeout: int = 30
) -> tuple[dict[str, float], str]:
    """Run the program; return the seconds of each of its stages, and its standard error."""
    done = subprocess.run(
        [sys.executable, PROGRAM, database, str(shutdown_timeout)],
        env=environment(endpoint, protocol),
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert 0 == done.returncode, done.stderr
    stages = (line.split() for line in done.stdout.splitlines())
    return {name: float(seconds) for name, seconds in stages}, done.stderr


def rows(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        [(count,)] = connection.execute("SELECT count(*) FROM key_values").fetchall()
    return int(count)


PROTOCOLS = pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])


@pytest.mark.rotel
@PROTOCOLS
def test_a_collector_receives_the_metrics(
    protocol: str, metrics_collector: Collector, tmp_path: Path
) -> None:
    """Counters and histograms have their buffer and the right sums, those of the drain included."""
    endpoint = metrics_collector.endpoint(protocol)
    _, errors = run(tmp_path / "a.db", endpoint=endpoint, protocol=protocol)
    received = metrics_collector.wait_for("forebay.entries.accepted")
    assert "" == errors

    def numbers(metric: str) -> dict[tuple[str, ...], dict[str, float]]:
        points = received[metric]
        assert {"key_values"} == {point.attributes.pop("buffer") for point in points}
        return {tuple(point.attributes.values()): point.numbers for point in points}

    assert {("write",): {"Value": 508.0}, ("delete",): {"Value": 1.0}} == numbers(
        "forebay.rows.flushed"
    )
    assert {("write",): {"Count": 3.0, "Sum": 508.0}, ("delete",): {"Count": 1.0, "Sum": 1.0}} == (
        numbers("forebay.flush.size")
    )
    assert {(): {"Value": 1509.0}} == numbers("forebay.entries.accepted")
    assert {(): {"Value": 1000.0}} == numbers("forebay.entries.superseded")
    assert {(): {"Value": 0.0}} == numbers("forebay.entries.dead_lettered")
    durations = numbers("forebay.flush.duration")
    assert {("write", "requested"), ("mixed", "requested"), ("write", "drain")} == set(durations)
    assert all(point["Count"] == 1 and point["Sum"] > 0 for point in durations.values())
    transactions = received["db.client.operation.duration"]
    assert 3 == sum(point.numbers["Count"] for point in transactions)
    assert {"sqlite"} == {point.attributes["db.system.name"] for point in transactions}
    assert "-> service.name: Str(a program)" in metrics_collector.output.read_text()
    assert "-> deployment.environment.name: Str(test)" in metrics_collector.output.read_text()


@pytest.mark.rotel
@PROTOCOLS
def test_a_collector_receives_the_spans(
    protocol: str, traces_collector: Collector, tmp_path: Path
) -> None:
    """Each flush is a root span with its buffer."""
    endpoint = traces_collector.endpoint(protocol)
    run(tmp_path / "a.db", endpoint=endpoint, protocol=protocol)
    traces_collector.wait_for_text(r"flush\.reason: Str\(drain\)")
    text = traces_collector.output.read_text()
    assert 3 == text.count("Name           : flush key_values")
    assert 3 == text.count("Parent ID      : \n")
    assert 3 == text.count("-> buffer: Str(key_values)")


@pytest.mark.rotel
@PROTOCOLS
def test_a_path_that_is_not_utf_8_is_escaped(
    protocol: str, metrics_collector: Collector, tmp_path: Path
) -> None:
    """The database's path is an attribute; the exporters encode only UTF-8."""
    endpoint = metrics_collector.endpoint(protocol)
    _, errors = run(bytes(tmp_path) + b"/\xff.db", endpoint=endpoint, protocol=protocol)
    assert "" == errors
    received = metrics_collector.wait_for("db.client.operation.duration")
    transactions = received["db.client.operation.duration"]
    assert 3 == sum(point.numbers["Count"] for point in transactions)
    assert {f"{tmp_path}/\\udcff.db"} == {
        point.attributes["db.namespace"] for point in transactions
    }


@pytest.mark.rotel
@PROTOCOLS
def test_a_path_that_is_not_utf_8_is_escaped_in_spans(
    protocol: str, traces_collector: Collector, tmp_path: Path
) -> None:
    """Each flush is received."""
    endpoint = traces_collector.endpoint(protocol)
    _, errors = run(bytes(tmp_path) + b"/\xff.db", endpoint=endpoint, protocol=protocol)
    assert "" == errors
    traces_collector.wait_for_text(r"flush\.reason: Str\(drain\)")
    text = traces_collector.output.read_text()
    assert 3 == text.count(rf"-> db.namespace: Str({tmp_path}/\udcff.db)")


def test_without_an_endpoint_the_program_does_not_wait(tmp_path: Path) -> None:
    """Nothing is exported, which is logged once."""
    stages, errors = run(tmp_path / "a.db", endpoint="", protocol="grpc")
    assert 507 == rows(tmp_path / "a.db")
    assert stages["exported"] < 5  # an exporter tries an endpoint that is down for 10 s
    [line] = errors.splitlines()
    assert line.startswith("metrics and spans are not exported, since no endpoint is configured")


@pytest.fixture
def silent_endpoint() -> Iterator[str]:
    """An endpoint that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@PROTOCOLS
def test_a_collector_that_never_answers_loses_no_row(
    protocol: str, silent_endpoint: str, tmp_path: Path
) -> None:
    """The drain ends first, the last export ends at its deadline, and every row is committed."""
    stages, errors = run(
        tmp_path / "a.db", endpoint=silent_endpoint, protocol=protocol, shutdown_timeout=1
    )
    assert 507 == rows(tmp_path / "a.db")
    assert ["drained", "exported"] == list(stages)
    assert stages["exported"] < 6  # without the deadline an exporter tries for ten seconds
    assert "the last export of telemetry was abandoned after 1 s" in errors


@PROTOCOLS
def test_a_collector_that_is_down_loses_no_row(protocol: str, tmp_path: Path) -> None:
    """Every row is committed. Some exporters end before the deadline if a connection is refused."""
    port = free_port()
    stages, errors = run(
        tmp_path / "a.db",
        endpoint=f"http://127.0.0.1:{port}",
        protocol=protocol,
        shutdown_timeout=1,
    )
    assert 507 == rows(tmp_path / "a.db")
    assert ["drained", "exported"] == list(stages)
    assert stages["exported"] < 6
    assert str(port) in errors


def forebay_load(
    folder: Path, variables: dict[str, str], *, together: bool = False
) -> subprocess.CompletedProcess[str]:
    """Load three rows. With `together`, standard error is in the standard output."""
    (folder / "a.csv").write_text("k,v\n1,a\n2,b\n2,c\n")
    command = "load a.csv --database a.db --table pairs --key k"
    return subprocess.run(
        [sys.executable, "-c", "from forebay.cli import main; main()", *command.split()],
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if together else subprocess.PIPE,
        text=True,
        check=False,
        timeout=90,
    )


@pytest.mark.rotel
def test_the_load_command_exports(metrics_collector: Collector, tmp_path: Path) -> None:
    """The service is `forebay load`, the buffer has the name of the table."""
    pytest.importorskip("click", reason="needs forebay[cli]")
    done = forebay_load(tmp_path, environment(metrics_collector.grpc, "grpc"))
    assert 0 == done.returncode, done.stderr
    [flushed] = metrics_collector.wait_for("forebay.rows.flushed")["forebay.rows.flushed"]
    assert {"buffer": "pairs", "operation": "write"} == flushed.attributes
    assert {"Value": 2.0} == flushed.numbers
    assert "-> service.name: Str(forebay load)" in metrics_collector.output.read_text()


def test_the_load_command_reports_before_the_last_export(
    silent_endpoint: str, tmp_path: Path
) -> None:
    """A user who interrupts the wait for a silent endpoint has seen the result of the load."""
    pytest.importorskip("click", reason="needs forebay[cli]")
    done = forebay_load(tmp_path, environment(silent_endpoint, "grpc"), together=True)
    assert 0 == done.returncode, done.stdout
    assert re.search(r"committed +2\n(.*\n)+the last export of telemetry was", done.stdout)


@pytest.mark.rotel
def test_the_replay_exports(metrics_collector: Collector, tmp_path: Path) -> None:
    """The service is `forebay replay`, the buffers have the names of its tables."""
    pytest.importorskip("cachetools", reason="needs forebay[cache]")
    trace = tmp_path / "trace.csv"
    trace.write_text("# time, object, size, next\n" + "1,a,10,-1\n2,b,10,-1\n3,a,10,-1\n")
    done = subprocess.run(
        [sys.executable, "-m", "replay", "--trace", trace, "--share", "2"],
        cwd=Path(__file__).parents[2],
        env=environment(metrics_collector.http, "http/protobuf"),
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert 0 == done.returncode, done.stderr
    received = metrics_collector.wait_for("forebay.entries.accepted")
    accepted = {p.attributes["buffer"]: p.numbers for p in received["forebay.entries.accepted"]}
    assert {"Value": 3.0} == accepted["cas_artifacts"]
    assert "-> service.name: Str(forebay replay)" in metrics_collector.output.read_text()


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "carrier pigeon"},
        {"OTEL_EXPORTER_OTLP_COMPRESSION": "zip"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "no header"},
    ],
)
def test_the_load_command_loads_although_it_cannot_export(
    variables: dict[str, str], tmp_path: Path
) -> None:
    """An invalid variable is named in a warning, and every row is in the table."""
    pytest.importorskip("click", reason="needs forebay[cli]")
    done = forebay_load(tmp_path, {**environment("http://127.0.0.1:1", "grpc"), **variables})
    assert 0 == done.returncode, done.stderr
    [variable] = variables
    assert re.search(f"telemetry is not exported: .*{variable}", done.stderr), done.stderr
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        assert [(1, "a"), (2, "c")] == connection.execute("SELECT * FROM pairs").fetchall()
