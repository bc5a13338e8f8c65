"""How many requests per second does the build-cache server of examples/ answer?

Each server runs in a process of its own, with its files in memory and its log on, as by default.

- `4 KiB`: `wrk` with 32 connections stores artifacts of 4 KiB under new keys for some seconds
  (`put`), and then reads 500 of them at random (`get`). nginx keeps no record of its files, and
  asks for no token.
- `100 MB`: one client stores and reads an artifact of 100,000,000 bytes; `growth` is how much the
  memory of the server grows meanwhile.

It needs `wrk`. npm installs turborepo-remote-cache in `.bench/npm`. Without npm or nginx, that
server is left out.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from time import perf_counter

from benchmarks.contestants.cache_servers import (
    CacheServer,
    Starts,
    forebay,
    nginx,
    turborepo_remote_cache,
)
from benchmarks.harness import MEMORY, Case, Contestant, memory_of
from benchmarks.results import Measure

SIZE = 4096
LARGE = 100_000_000
KEYS = 500
CONNECTIONS = 32

PUT = Measure("put", "requests/s", more_is_better=True)
GET = Measure("get", "requests/s", more_is_better=True)
UP = Measure("up", "MB/s", more_is_better=True)
DOWN = Measure("down", "MB/s", more_is_better=True)
GROWTH = Measure("growth", "MiB", more_is_better=False)

SERVERS: Mapping[str, tuple[Starts, str]] = {
    "forebay": (forebay, "wrk"),
    "turborepo-remote-cache": (turborepo_remote_cache, "npm"),
    "nginx": (nginx, "nginx"),
}
"""How each server is started, and the program that must be installed."""


def cases(full: bool) -> Iterator[Case]:
    if shutil.which("wrk") is None:
        print("cache_server: wrk is not installed")
        return
    rounds = 11 if full else 5
    small = partial(_small, seconds=8 if full else 4)
    for name, run, measures in (
        ("4 KiB", small, [PUT, GET]),
        ("100 MB", _large, [UP, DOWN, GROWTH]),
    ):
        contestants = [
            Contestant(server, partial(run, starts), check=_nothing, prepare=_nothing)
            for server, (starts, program) in SERVERS.items()
            if shutil.which(program) is not None
        ]
        yield Case("cache_server", name, measures, contestants, folder=MEMORY, rounds=rounds)


def _nothing(_: Path) -> None:
    """Answers are compared while the server runs."""


# wrk calls `request` once before it begins, so the first key is not stored.
_SCRIPT = """
local number, keys, method = 0, {keys}, "{method}"
local file = io.open("{body}", "rb")
local body = method == "PUT" and file:read("*a") or nil
request = function()
  number = number + 1
  local name = method == "PUT" and number or math.random(2, keys)
  return wrk.format(method, string.format("{target}", name), {{{headers}}}, body)
end
done = function(summary)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  print(string.format("result %d %d %d", summary.requests, summary.duration, failed))
end
"""


def _small(starts: Starts, path: Path, *, seconds: int) -> Mapping[str, float]:
    folder = path.parent
    data = os.urandom(SIZE)
    (folder / "body").write_bytes(data)
    with starts(folder) as server:
        stored, put = _wrk(server, folder, "PUT", seconds, 0)
        # The last requests may have been cut off. A slow machine may not store as many keys.
        keys = max(2, min(KEYS, stored - 2 * CONNECTIONS))
        _, get = _wrk(server, folder, "GET", seconds, keys)
        for number in (2, keys):
            _check(server, str(number), data)
    return {"put": put, "get": get}


def _wrk(
    server: CacheServer, folder: Path, method: str, seconds: int, keys: int
) -> tuple[int, float]:
    """Return how many requests a server answers, in all and per second; none may fail."""
    headers = ", ".join(f"[{json.dumps(k)}] = {json.dumps(v)}" for k, v in server.headers.items())
    script = folder / "script.lua"
    script.write_text(
        _SCRIPT.format(
            keys=keys,
            method=method,
            body=folder / "body",
            target=server.target.replace("%s", "%d"),
            headers=headers,
        )
    )
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}", "--timeout=60", "-s", str(script)]
    output = subprocess.run(  # noqa: S603  # wrk, with our script
        [*command, f"http://127.0.0.1:{server.port}/"], check=True, capture_output=True, text=True
    ).stdout
    found = re.search(r"^result (\d+) (\d+) (\d+)$", output, re.MULTILINE)
    if found is None:
        raise AssertionError(output)
    requests, duration, failed = map(int, found.groups())
    _require(failed == 0, output)
    return requests, requests / duration * 1e6


def _check(server: CacheServer, name: str, data: bytes) -> None:
    connection = HTTPConnection("127.0.0.1", server.port)
    connection.request("GET", server.target % name, headers=server.headers)
    answer = connection.getresponse().read()
    connection.close()
    _require(answer == data, f"{name} has {len(answer)} bytes")


def _large(starts: Starts, path: Path) -> Mapping[str, float]:
    data = os.urandom(LARGE)
    with starts(path.parent) as server:
        before = memory_of(server.pid, "VmRSS")
        connection = HTTPConnection("127.0.0.1", server.port)
        started = perf_counter()
        connection.request("PUT", server.target % "large", data, server.headers)
        answer = connection.getresponse()
        answer.read()
        _require(answer.status < 300, answer.status)
        stored = perf_counter()
        connection.request("GET", server.target % "large", headers=server.headers)
        received = connection.getresponse().read()
        done = perf_counter()
        growth = memory_of(server.pid, "VmHWM") - before
    _require(received == data, "the artifact was changed")
    megabytes = LARGE / 1e6
    return {
        "up": megabytes / (stored - started),
        "down": megabytes / (done - stored),
        "growth": growth / (1 << 20),
    }


def _require(condition: bool, otherwise: object) -> None:
    if not condition:
        raise AssertionError(otherwise)
