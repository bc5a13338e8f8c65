"""A proxy on loopback between a program and ClickHouse, which cuts connections as told."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from ssl import SSLContext
from urllib.parse import parse_qs, urlsplit

import trio
import trio.abc

from tests.stores.clickhouse.real_server import RealServer


class Fault(enum.Enum):
    """What the proxy does with an INSERT."""

    NONE = "none"
    REFUSE = "close the connection before anything is sent on"
    CUT_REQUEST = "send half of the request on, and close both connections"
    CUT_BEFORE_ANSWER = "send the request on, and close the connection instead of answering"
    CUT_ANSWER = "send half of the answer back, and close the connection"
    STALL = "send the request on, and never answer"


@dataclass(frozen=True)
class Answer:
    """What the proxy answers by itself, without asking the server."""

    code: int
    status: int = 500


@dataclass(frozen=True)
class Insert:
    """An INSERT that came to the proxy."""

    statement: str
    parameters: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def token(self) -> str:
        return self.parameters.get("insert_deduplication_token", "")


class Proxy:
    """Passes all requests on, and INSERTs as `decide` says.

    Args:
        port: the port of the server.
        decide: returns what to do with an INSERT.
        tls: with which it serves HTTPS; None for HTTP.
    """

    def __init__(
        self,
        port: int,
        decide: Callable[[Insert], Fault | Answer] = lambda _insert: Fault.NONE,
        tls: SSLContext | None = None,
    ) -> None:
        self._tls = tls
        self._port = port
        self.decide = decide
        self.inserts: list[Insert] = []
        self.port = 0
        self.changed = trio.Event()
        """Set at the next INSERT."""
        self.is_down = False
        """Whether all connections are closed at once, as if there were no server."""

    @property
    def url(self) -> str:
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://127.0.0.1:{self.port}"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            if self._tls is None:
                serve = partial(trio.serve_tcp, self._serve, 0, host="127.0.0.1")
                [listener] = await nursery.start(serve)
            else:
                secure = partial(
                    trio.serve_ssl_over_tcp, self._serve, 0, self._tls, host="127.0.0.1"
                )
                [ssl_listener] = await nursery.start(secure)
                listener = ssl_listener.transport_listener
            self.port = listener.socket.getsockname()[1]
            task_status.started()

    async def wait_for_inserts(self, count: int) -> None:
        while len(self.inserts) < count:
            await self.changed.wait()

    async def _serve(self, client: trio.abc.Stream) -> None:
        try:
            if self.is_down:
                return
            request = await self._read_request(client)
            if request is None:
                return
            head, body = request
            insert = self._parse(head, body)
            fault: Fault | Answer = Fault.NONE
            if insert is not None:
                self.inserts.append(insert)
                self.changed.set()
                self.changed = trio.Event()
                fault = self.decide(insert)
            await self._carry_out(fault, client, head, body)
        except (trio.BrokenResourceError, OSError):
            pass  # one side closed its connection, as programs and servers that are killed do
        finally:
            await trio.aclose_forcefully(client)

    async def _carry_out(
        self, fault: Fault | Answer, client: trio.abc.Stream, head: bytes, body: bytes
    ) -> None:
        if isinstance(fault, Answer):
            text = f"Code: {fault.code}. DB::Exception: as told"
            await client.send_all(
                f"HTTP/1.1 {fault.status} As told\r\nX-ClickHouse-Exception-Code: {fault.code}\r\n"
                f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}".encode()
            )
            return
        if fault is Fault.REFUSE:
            return
        async with await trio.open_tcp_stream("127.0.0.1", self._port) as server:
            whole = head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + body
            if fault is Fault.CUT_REQUEST:
                await server.send_all(whole[: len(whole) - len(body) // 2 - 1])
                return
            await server.send_all(whole)
            answer = b"".join([part async for part in server])
        if fault is Fault.STALL:
            await client.receive_some()  # until the client closes its connection
        elif fault is Fault.CUT_ANSWER:
            await client.send_all(answer[: len(answer) // 2])
        elif fault is Fault.NONE:
            await client.send_all(answer)

    async def _read_request(self, client: trio.abc.Stream) -> tuple[bytes, bytes] | None:
        received = b""
        while b"\r\n\r\n" not in received:
            part = await client.receive_some(1 << 16)
            if not part:
                return None
            received += part
        head, _, rest = received.partition(b"\r\n\r\n")
        length = int(_headers(head).get("content-length", "0"))
        body = bytearray(rest)
        while len(body) < length:
            part = await client.receive_some(1 << 20)
            if not part:
                return None
            body += part
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection")]
        return b"\r\n".join(lines) + b"\r\n\r\n", bytes(body)

    def _parse(self, head: bytes, body: bytes) -> Insert | None:
        target = head.split(b" ", 2)[1].decode()
        parameters = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
        statement = parameters.pop("query", "")
        if not statement.startswith("INSERT"):
            return None
        return Insert(statement, parameters, _headers(head), body)


def planned(*faults: Fault | Answer) -> Callable[[Insert], Fault | Answer]:
    """Return a function that returns these faults, one per INSERT, and none after them."""
    left = iter(faults)
    return lambda _insert: next(left, Fault.NONE)


@asynccontextmanager
async def proxy_to(
    server: RealServer, *faults: Fault | Answer, tls: SSLContext | None = None
) -> AsyncIterator[Proxy]:
    """Run a proxy for the time of a block, with faults for its first INSERTs."""
    proxy = Proxy(server.port, planned(*faults), tls)
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.run)
        yield proxy
        nursery.cancel_scope.cancel()


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}
