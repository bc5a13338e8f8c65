"""The example that collects metrics over HTTP."""

from __future__ import annotations

import http.client
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

from tests.examples.programs import Program, example, rows, run_section, started
from tests.ports import free_port
from tests.waiting import wait_until

CAPACITY = 100_000
"""The entries that a buffer may hold."""


@contextmanager
def collecting(folder: Path) -> Iterator[tuple[Program, int]]:
    with started(example("metrics_collector.py", "metrics.db", "127.0.0.1:0"), folder) as program:
        yield program, int(program.wait_for(r"Running on http://127\.0\.0\.1:(\d+)")[1])


def request(port: int, path: str, body: bytes | None = None) -> tuple[int, Any]:
    """Return the status and the content of an answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET" if body is None else "POST", path, body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def samples(count: int) -> bytes:
    return json.dumps([{"name": "load", "value": number} for number in range(count)]).encode()


def total(folder: Path) -> int:
    [(count,)] = rows(folder / "metrics.db", "SELECT sum(samples) FROM minutes")
    return int(count)


def test_the_readme(tmp_path: Path) -> None:
    """The commands of the README print what it says."""
    run_section("A metrics collector", tmp_path, {"127.0.0.1:8080": f"127.0.0.1:{free_port()}"})


def test_minutes_are_merged_and_read(tmp_path: Path) -> None:
    """Samples are one row per name and minute, whose columns are merged by their rules."""
    with collecting(tmp_path) as (program, port):
        assert (202, {"accepted": 100}) == request(port, "/samples", samples(100))
        assert (202, {"accepted": 50}) == request(port, "/samples", samples(50))
        program.terminate()
    with collecting(tmp_path) as (program, port):
        status, minutes = request(port, "/minutes/load")
        assert 200 == status
        program.terminate()
    assert 150 == sum(minute["samples"] for minute in minutes)
    assert sum(range(100)) + sum(range(50)) == sum(minute["total"] for minute in minutes)
    assert 0 == min(minute["smallest"] for minute in minutes)
    assert 99 == max(minute["largest"] for minute in minutes)


def test_a_malformed_request_is_refused_whole(tmp_path: Path) -> None:
    """The answer says where the fault is. No sample of the request is accepted."""
    good = '{"name": "load", "value": 1}'
    malformed = [
        f'[{good}, {{"name": "load"}}]',
        f'[{good}, {{"name": "", "value": 1}}]',
        f'[{good}, {{"name": "\\ud800", "value": 1}}]',
        f'[{good}, {{"name": "load", "value": 1e999}}]',
        f'[{good}, {{"name": "load", "value": NaN}}]',
        f"[{good}",
        "",
    ]
    with collecting(tmp_path) as (program, port):
        for body in malformed:
            status, answer = request(port, "/samples", body.encode())
            assert (400, ["error"]) == (status, list(answer)), body
        assert 413 == request(port, "/samples", b" " * (1 << 21))[0]
        assert (200, {"accepted": 0, "pending": 0}) == request(port, "/health")
        program.terminate()


def test_a_client_is_told_how_many_samples_a_full_buffer_accepted(tmp_path: Path) -> None:
    """While the database is locked the buffer fills. Then a client gets 503 and the number."""
    with collecting(tmp_path) as (program, port):
        with closing(sqlite3.connect(tmp_path / "metrics.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            accepted = 0
            while accepted < CAPACITY:
                accepted += request(port, "/samples", samples(20_000))[1]["accepted"]
            status, answer = request(port, "/samples", samples(100))
            other.execute("ROLLBACK")
        assert (503, 0) == (status, answer["accepted"])
        program.terminate()
    assert CAPACITY == accepted == total(tmp_path)


def test_sigterm_commits_what_was_accepted(tmp_path: Path) -> None:
    """Clients send while the signal arrives. Each sample that was accepted is in the table."""
    accepted: list[int] = []
    cut_off: list[int] = []

    def send(port: int) -> None:
        while True:
            try:
                status, answer = request(port, "/samples", samples(100))
            except ConnectionRefusedError:
                return
            except (OSError, http.client.HTTPException):  # it ended before the answer
                cut_off.append(100)
                return
            assert 202 == status
            accepted.append(answer["accepted"])

    with collecting(tmp_path) as (program, port):
        clients = [Thread(target=send, args=[port]) for _ in range(4)]
        for client in clients:
            client.start()
        wait_until(lambda: len(accepted) >= 20, "20 requests are accepted", lambda: program.output)
        program.terminate()
        for client in clients:
            client.join()
    assert sum(accepted) <= total(tmp_path) <= sum(accepted) + sum(cut_off)
