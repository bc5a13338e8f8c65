"""The server of examples/build_cache as a process, and a client that sends what a test says."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Self

EXAMPLE = Path(__file__).parents[3] / "examples" / "build_cache"
TOKEN = "opens-all-projects"  # noqa: S105  # of a server of a test
TIMEOUT = 60.0
"""Seconds to wait for anything."""


@dataclass
class Server:
    """A running server."""

    process: subprocess.Popen[bytes]
    port: int
    log: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The URL of the server."""
        return f"http://127.0.0.1:{self.port}"

    def terminate(self) -> int:
        """Send SIGTERM, and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(TIMEOUT)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.process.kill()
        self.process.wait(TIMEOUT)


@contextmanager
def build_cache(folder: Path, *arguments: str, port: int = 0) -> Iterator[Server]:
    """Run the server for the duration of the block, and end it with SIGTERM."""
    command = [sys.executable, str(EXAMPLE), str(folder), f"--port={port}", f"--token={TOKEN}"]
    process = subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE)
    assert process.stderr is not None
    lines: list[str] = []
    reader = None
    try:
        for line in process.stderr:
            lines.append(line.decode())
            if "listening" in lines[-1]:
                break
        else:
            raise AssertionError("".join(lines))
        server = Server(process, int(lines[-1].split()[-1]), lines)
        reader = threading.Thread(target=_read, args=(process.stderr, lines))
        reader.start()
        yield server
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        process.wait(TIMEOUT)
        if reader is not None:
            reader.join(TIMEOUT)
        process.stderr.close()


def _read(stream: BinaryIO, lines: list[str]) -> None:
    lines.extend(line.decode() for line in stream)


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """A connection to a server."""

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(TIMEOUT)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(("127.0.0.1", port))
        self._stream = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes; the server may have closed the connection."""
        with suppress(ConnectionError):
            self.socket.sendall(data)

    def ask(self, method: str, target: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send a request and return its response."""
        self.send(request(method, target, body, **headers))
        return self.answer(method)

    def answer(self, method: str = "GET") -> Answer:
        """Return the next response."""
        status = int(self._stream.readline().split()[1])
        headers = {}
        while line := self._stream.readline().strip().decode():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        size = 0 if method == "HEAD" or status < 200 else int(headers["content-length"])
        body = self._stream.read(size)
        assert len(body) == size
        return Answer(status, headers, body)

    def is_closed(self) -> bool:
        """Wait until the server sends something or closes the connection; return the latter."""
        try:
            return not self._stream.read(1)
        except ConnectionError:
            return True


def until(holds: Callable[[], bool]) -> None:
    """Ask again until a condition holds."""
    deadline = time.monotonic() + TIMEOUT
    while not holds():
        assert time.monotonic() < deadline, "the condition never held"


def request(method: str, target: str, body: bytes | None = None, **headers: str) -> bytes:
    """Return the bytes of a request, with the token for all projects unless it has another."""
    fields = {"host": "cache", "authorization": f"Bearer {TOKEN}"}
    if body is not None:
        fields["content-length"] = str(len(body))
    fields.update({name.replace("_", "-"): value for name, value in headers.items()})
    lines = [f"{method} {target} HTTP/1.1", *(f"{n}: {v}" for n, v in fields.items() if v), "", ""]
    return "\r\n".join(lines).encode("latin-1") + (body or b"")
