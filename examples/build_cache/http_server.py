"""An HTTP/1.1 server on Trio: a task for each connection, and httptools to parse what it receives.

A module named `http` would hide the one of the standard library.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache, partial
from http import HTTPStatus
from typing import BinaryIO
from urllib.parse import parse_qsl, unquote

import httptools
import trio
from prometheus_client import Histogram

_log = logging.getLogger("build_cache")
_access_log = logging.getLogger("build_cache.access")
_DURATION = Histogram(
    "build_cache_request_duration_seconds",
    "From the head of a request to the end of its response.",
    ["method", "status"],
)

METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PROPFIND")

_PIECE = 128 * 2**10
"""How many bytes of a body are received or sent at a time."""
_QUICK_ACK = getattr(socket, "TCP_QUICKACK", None)
"""An option of sockets on Linux: acknowledge at once what was received."""
_LINGER = 2.0
"""How many seconds the end of a connection may take."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a client may ask of the server. Sizes are in bytes, durations in seconds."""

    max_header: int = 16 * 2**10
    max_body: int = 2**31
    max_connections: int = 1000
    idle_timeout: float = 90.0
    """How long a connection waits for the head of a request. Some clients count on 75 s."""
    stall_timeout: float = 30.0
    """How long a body or a response may make no progress."""
    min_rate: int = 16 * 2**10
    """How many bytes of them must move per second, on average, after the first `stall_timeout`."""


class HttpError(Exception):
    """Ends a request: the response has this status, this text as its body, and these headers."""

    def __init__(self, status: int, text: str, *headers: tuple[str, str]) -> None:
        super().__init__(status, text)
        self.status, self.text, self.headers = status, text, headers


class Connection:
    """The state of a connection, and the deadline of what it waits for.

    httptools calls the methods `on_…`. What they parse is queued, since a client may send its next
    requests before it has received the response to the first one.
    """

    def __init__(self, stream: trio.SocketStream, limits: Limits) -> None:
        self.stream = stream
        self.limits = limits
        self.scope = trio.CancelScope()
        self.request: Request | None = None
        """The request in progress; None until the head of the next one is complete."""
        self.is_last = False
        """Whether the connection is closed after the response in progress."""
        self.is_unread = False
        """Whether the client may still send something that nobody reads."""
        self.peer = "?"
        with suppress(OSError):  # it is gone already
            self.peer = stream.socket.getpeername()[0]
        self._parser = httptools.HttpRequestParser(self)
        self._parsing = Request(self)
        self._parsed: deque[Request | bytes | HttpError | None] = deque()
        """Heads of requests, pieces of their bodies, and None at the end of each request."""
        self._moved = 0

    def on_message_begin(self) -> None:
        self._parsing = Request(self)

    def on_url(self, part: bytes) -> None:
        self._parsing.target += part.decode("ascii")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._parsing.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        request = self._parsing
        request.method = self._parser.get_method().decode()
        request.version = self._parser.get_http_version()
        request.is_last = request.version == "1.0" or not self._parser.should_keep_alive()
        self._parsed.append(request)

    def on_body(self, piece: bytes) -> None:
        self._parsed.append(piece)

    def on_message_complete(self) -> None:
        self._parsed.append(None)

    def begins(self) -> bool:
        """Return whether there may be another request, and begin to wait for it."""
        self.request, self._moved = None, 0
        self.scope.deadline = trio.current_time() + self.limits.idle_timeout
        return not self.is_last and not self.is_unread

    async def receive(self) -> Request | bytes | None:
        """Return the head of the next request, a piece of its body, or None at its end.

        Between two requests, None is the end of the connection.

        Raises:
            HttpError: it is not HTTP, or the client went away in its middle.
        """
        waited = 0
        while not self._parsed:
            data = await self._receive_some()
            waited += len(data)
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade:
                self.is_last = True  # the upgrade is ignored, and so is what follows it
            except httptools.HttpParserError as error:
                self._parsed.append(HttpError(400, str(error)))
            if not data:  # the client went away
                is_cut_off = waited or self.request is not None
                self._parsed.append(HttpError(400, "it is cut off") if is_cut_off else None)
            elif self.request is None and not self._parsed and waited > self.limits.max_header:
                self._parsed.append(HttpError(431, "the head is too large"))
        received = self._parsed.popleft()
        self.is_unread = received is not None
        if isinstance(received, HttpError):
            raise received
        return received

    async def _receive_some(self) -> bytes:
        size = self.limits.max_header if self.request is None else _PIECE
        if self.request is not None and _QUICK_ACK is not None:
            # Some clients send no body before its head is acknowledged.
            self.stream.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
        data = b""
        with suppress(trio.BrokenResourceError):  # the client went away
            data = bytes(await self.stream.receive_some(size))
        self.move_deadline(len(data))
        return data

    def move_deadline(self, size: int = 0) -> None:
        """Move the deadline of the request in progress, of which this many bytes have moved."""
        if self.request is not None:
            self._moved += size
            slowest = self.request.started + self._moved / self.limits.min_rate
            self.scope.deadline = min(trio.current_time(), slowest) + self.limits.stall_timeout

    async def linger(self) -> None:
        """Let a client that still sends read the response, before the connection is closed."""
        await self.stream.send_eof()
        while await self.stream.receive_some(_PIECE):
            pass


class Request:
    """A request, and the methods to receive its body and to answer it."""

    def __init__(self, connection: Connection) -> None:
        self.method = "-"  # until the head is complete
        self.target = ""
        self.version = "1.1"
        self.is_last = False
        """Whether the client sends no request after this one."""
        self.headers: dict[str, str] = {}
        """The values of the headers, by their names in lower case."""
        self.segments: list[str] = []
        """The decoded segments of the path."""
        self.query: dict[str, str] = {}
        self.size = 0
        """The size of the body in bytes."""
        self.started = trio.current_time()
        self._connection = connection
        self._is_answered = False

    async def check(self) -> None:
        """Check the head, and read from it what the target and the length are.

        Raises:
            HttpError: the request is refused.
        """
        self.started = trio.current_time()
        self._connection.move_deadline()
        if self.version != "1.0" and not self.header("host"):
            raise HttpError(400, "Host is missing")
        # The parser has checked that the length is one number. It must be known in advance.
        length = self.header("content-length")
        if self.header("transfer-encoding") or (self.method == "PUT" and not length):
            raise HttpError(411, "Content-Length is missing")
        self.size = int(length or 0)
        self.require_size(self._connection.limits.max_body)
        if self.size and self.header("upgrade"):  # the parser takes no body for one
            raise HttpError(501, "a request with a body must not offer an upgrade")
        if not self.size:
            await self._connection.receive()  # the end of the request, which came with its head
        path, _, query = self.target.partition("?")
        parts = path.removesuffix("/").split("/")[1:]  # WebDAV ends the path of a folder with "/"
        try:
            self.segments = [unquote(part, errors="strict") for part in parts]
            self.query = dict(parse_qsl(query, errors="strict"))
        except UnicodeDecodeError:
            raise HttpError(400, "the target is not UTF-8") from None
        if not path.startswith("/") or not all(map(_is_plain, self.segments)):
            raise HttpError(400, "the path has an empty segment, dots, or an encoded slash")

    def header(self, name: str) -> str:
        """Return the value of a header, by its name in lower case; "" without it."""
        return self.headers.get(name, "")

    def require_size(self, limit: int) -> None:
        """Refuse a body with more than this many bytes."""
        if self.size > limit:
            raise HttpError(413, f"the body has more than {limit} bytes")

    async def body(self) -> AsyncGenerator[bytes, None]:
        """Receive the body, piece by piece.

        Raises:
            HttpError: the client went away before the end of the body.
        """
        if self.size and self.header("expect").lower() == "100-continue":
            await self._connection.stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        while self.size and isinstance(piece := await self._connection.receive(), bytes):
            yield piece

    async def read(self, limit: int) -> bytes:
        """Receive a body that has at most this many bytes."""
        self.require_size(limit)
        return b"".join([piece async for piece in self.body()])

    async def respond(
        self, status: int, body: bytes | BinaryIO = b"", headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Send a response, whose body is bytes, or a file that is sent piece by piece."""
        size = len(body) if isinstance(body, bytes) else os.fstat(body.fileno()).st_size
        lines = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            f"date: {_date(int(time.time()))}",
            f"content-length: {size}",
            *(f"{name}: {value}" for name, value in headers),
        ]
        if self._connection.is_last or self._connection.is_unread:
            lines.append("connection: close")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        self._is_answered = True
        try:
            if self.method == "HEAD":
                await self._connection.stream.send_all(head)
            elif isinstance(body, bytes):
                await self._connection.stream.send_all(head + body)
            else:
                await self._connection.stream.send_all(head)
                for start in range(0, size, _PIECE):  # in threads, since the disk may be slow
                    data = await trio.to_thread.run_sync(os.pread, body.fileno(), _PIECE, start)
                    if len(data) < min(_PIECE, size - start):
                        raise OSError("the file became shorter while it was sent")
                    await self._connection.stream.send_all(data)
                    self._connection.move_deadline(len(data))
        finally:
            seconds = trio.current_time() - self.started
            method = self.method if self.method in METHODS else "other"
            _DURATION.labels(method, status).observe(seconds)
            line = (self._connection.peer, self.method, self.target, status, seconds * 1000)
            _access_log.info('%s "%s %.200s" %d %.1f ms', *line)

    async def refuse(self, error: Exception) -> None:
        """Respond with an error, unless a part of another response was sent."""
        if self._is_answered:
            raise error
        match error:
            case HttpError():
                refusal = error
            case OSError(errno=errno.ENOSPC | errno.EDQUOT):
                refusal = HttpError(507, "the disk is full")
            case _:
                refusal = HttpError(500, "internal error")
        if refusal.status >= 500:
            _log.error("%s %s failed", self.method, self.target, exc_info=error)
        await self.respond(refusal.status, f"{refusal.text}\n".encode(), refusal.headers)


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


def _is_plain(segment: str) -> bool:
    return segment not in ("", ".", "..") and "/" not in segment and segment.isprintable()


class HttpServer:
    """Serves connections, and passes each request to a handler."""

    def __init__(self, handler: Callable[[Request], Awaitable[None]], limits: Limits) -> None:
        """Set the handler, which answers a request or raises `HttpError`, and the limits."""
        self._handler = handler
        self._limits = limits
        self._connections: set[Connection] = set()
        self._draining = False

    async def serve(self, host: str, port: int, drain_timeout: float) -> None:
        """Serve until SIGTERM or SIGINT; then finish the requests in progress, in this time."""
        listeners = await trio.open_tcp_listeners(port, host=host)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as connections:
                accept = partial(trio.serve_listeners, handler_nursery=connections)
                async with trio.open_nursery() as accepting:
                    accepting.start_soon(accept, self._serve, listeners)
                    for listener in listeners:
                        _log.info("listening on %s port %d", *listener.socket.getsockname()[:2])
                    _log.info("%s: draining", signal.Signals(await anext(signals)).name)
                    accepting.cancel_scope.cancel()
                self._draining = True
                for connection in self._connections:
                    connection.is_last = True
                    if connection.request is None:
                        connection.scope.cancel()
                connections.cancel_scope.deadline = trio.current_time() + drain_timeout

    async def _serve(self, stream: trio.SocketStream) -> None:
        connection = Connection(stream, self._limits)
        connection.is_last = self._draining
        waiting = [other for other in self._connections if other.request is None]
        if len(self._connections) >= self._limits.max_connections and waiting:
            min(waiting, key=lambda other: other.scope.deadline).scope.cancel()
        self._connections.add(connection)
        try:
            with connection.scope:
                while connection.begins():
                    await self._answer(connection)
            with trio.move_on_after(_LINGER):
                if connection.request is not None:  # its deadline has passed
                    status = 408 if connection.is_unread else 503
                    connection.is_last = True
                    await connection.request.refuse(HttpError(status, "it took too long"))
                if connection.is_unread:
                    await connection.linger()
        except (HttpError, trio.BrokenResourceError):
            pass  # the client is gone, or too slow for the rest of its response
        except Exception:  # noqa: BLE001  # an error in one connection ends no other one
            _log.exception("a connection failed")
        finally:
            self._connections.discard(connection)

    async def _answer(self, connection: Connection) -> None:
        request = Request(connection)  # for the refusal of what is not HTTP
        try:
            received = await connection.receive()
            if not isinstance(received, Request):  # the client closed the connection
                connection.is_last = True
                return
            request = connection.request = received
            connection.is_last |= request.is_last
            await request.check()
            await self._handler(request)
        except Exception as error:  # noqa: BLE001  # it becomes the response
            await request.refuse(error)
