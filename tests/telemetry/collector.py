"""A real OpenTelemetry collector, rotel, and the telemetry that it received."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from tests.ports import free_ports
from tests.waiting import wait_for_server, wait_until


def why_no_rotel() -> str | None:
    """Return the reason why rotel does not run here, on one line; None if it runs."""
    agent = _agent()
    if agent is None:
        return "not installed: PyPI has no build for this machine"
    try:
        started = subprocess.run(
            [agent, "--version"], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except OSError as error:
        return f"cannot be executed: {error.strerror}"
    if started.returncode == 0:
        return None
    # The system's loader says here which library or version is missing.
    output = " ".join(started.stdout.decode(errors="backslashreplace").split())
    return f"exit code {started.returncode}: {output}"


def _agent() -> Path | None:
    spec = find_spec("rotel")
    if spec is None or spec.origin is None:
        return None
    agent = Path(spec.origin).parent / "rotel-agent"
    return agent if agent.exists() else None


@dataclass(frozen=True)
class Point:
    """One data point: its number, or the count and the sum of a histogram."""

    attributes: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Collector:
    """A collector that runs.

    Attributes:
        grpc: its endpoint for gRPC.
        http: its endpoint for HTTP.
        output: the file to which it prints what it receives.
    """

    grpc: str
    http: str
    output: Path

    def endpoint(self, protocol: str) -> str:
        """Return its endpoint for a value of `OTEL_EXPORTER_OTLP_PROTOCOL`."""
        return self.grpc if protocol == "grpc" else self.http

    def metrics(self) -> dict[str, list[Point]]:
        """Return the points received so far, by the name of their metric."""
        metrics: dict[str, list[Point]] = {}
        points: list[Point] = []
        for line in self.output.read_text().splitlines():
            if name := re.fullmatch(r" +-> Name: (.+)", line):
                points = metrics.setdefault(name[1], [])
            elif re.match(r"(Number|Histogram)DataPoints #", line):
                points.append(Point())
            elif (pair := re.fullmatch(r" +-> ([\w.]+): Str\((.*)\)", line)) and points:
                points[-1].attributes[pair[1]] = pair[2]
            elif number := re.fullmatch(r"(Value|Count|Sum): (.+)", line):
                points[-1].numbers[number[1]] = float(number[2])
        return metrics

    def wait_for(self, metric: str) -> dict[str, list[Point]]:
        """Wait until points of a metric are received, and return all points."""
        read = self.output.read_text
        wait_until(lambda: metric in self.metrics(), f"points of {metric} are received", read)
        return self.metrics()

    def wait_for_text(self, pattern: str) -> None:
        """Wait until the collector has printed a text that matches."""
        read = self.output.read_text
        wait_until(lambda: re.search(pattern, read()), f"the output has {pattern!r}", read)


@contextmanager
def collector(folder: Path, *, signal: str) -> Iterator[Collector]:
    """Run rotel on loopback, so that it prints the metrics or the traces that it receives.

    Args:
        folder: a folder for its files.
        signal: `metrics` or `traces`.
    """
    grpc, http = free_ports(2)
    output = folder / "rotel.out"
    with (
        output.open("wb") as file,
        subprocess.Popen(
            [
                str(_agent()),
                "start",
                "--exporter=blackhole",
                f"--debug-log={signal}",
                "--debug-log-verbosity=detailed",
                f"--otlp-grpc-endpoint=127.0.0.1:{grpc}",
                f"--otlp-http-endpoint=127.0.0.1:{http}",
                f"--pid-file={folder / 'rotel.pid'}",
                f"--log-file={folder / 'rotel.log'}",
            ],
            stdout=file,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            for port in (grpc, http):
                wait_for_server(process, output, partial(_listens, port))
            yield Collector(f"http://127.0.0.1:{grpc}", f"http://127.0.0.1:{http}", output)
        finally:
            process.kill()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True
