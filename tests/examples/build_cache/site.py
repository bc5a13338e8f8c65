"""The server of examples/build_cache as a process, and a client that sends what a test says."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.examples.programs import EXAMPLES, Program, started
from tests.waiting import TIMEOUT

EXAMPLE = EXAMPLES / "build_cache"
TOKEN = "opens-all-projects"  # noqa: S105  # of a server of a test


@dataclass(frozen=True)
class Server:
    """A running server."""

    program: Program
    port: int

    @property
    def url(self) -> str:
        """The URL of the server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What the server has logged."""
        return self.program.output


@contextmanager
def build_cache(folder: Path, *arguments: str, port: int = 0) -> Iterator[Server]:
    """Run the server for the duration of the block, and end it with SIGTERM if it still runs.

    Its log is a file in the parent of the folder.
    """
    command = [sys.executable, str(EXAMPLE), str(folder), f"--port={port}", f"--token={TOKEN}"]
    command.append("--budget=1000000000000")  # nothing is evicted, however full the disk is
    with started([*command, *arguments], folder.parent) as program:
        yield Server(program, int(program.wait_for(r"listening on \S+ port (\d+)")[1]))
        if program.process.poll() is None:
            program.terminate()


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
        size = 0 if method == "HEAD" else int(headers.get("content-length", 0))
        body = self._stream.read(size)
        assert len(body) == size
        return Answer(status, headers, body)

    def wait_for_response(self) -> None:
        """Wait until a response has begun."""
        assert self._stream.peek(1)

    def receive_all(self) -> int:
        """Receive until the server closes the connection, and return how many bytes came."""
        count = 0
        with suppress(ConnectionError):
            while data := self._stream.read1(2**16):
                count += len(data)
        return count

    def is_closed(self) -> bool:
        """Wait until the server sends something or closes the connection; return the latter."""
        try:
            return not self._stream.read(1)
        except ConnectionError:
            return True


def request(method: str, target: str, body: bytes | None = None, **headers: str) -> bytes:
    """Return the bytes of a request, with the token for all projects unless it has another."""
    fields = {"host": "cache", "authorization": f"Bearer {TOKEN}"}
    if body is not None:
        fields["content-length"] = str(len(body))
    fields.update({name.replace("_", "-"): value for name, value in headers.items()})
    lines = [f"{method} {target} HTTP/1.1", *(f"{n}: {v}" for n, v in fields.items() if v), "", ""]
    return "\r\n".join(lines).encode("latin-1") + (body or b"")
