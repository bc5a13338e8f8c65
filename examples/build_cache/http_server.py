"""An HTTP/1.1 server on Trio: a task per connection, and httptools to parse heads of requests."""

from __future__ import annotations

import errno
import logging
import signal
import socket
import sys
import time
from collections import OrderedDict, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache, partial
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote

import httptools
import trio
from prometheus_client import Histogram

METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PROPFIND")

_END_OF_HEAD = b"\r\n\r\n"
_PIECE = 128 * 2**10  # how many bytes of a body are received, or sent, at a time
_LINGER = 2.0  # how many seconds a client has to read the last response

_log = logging.getLogger("build_cache")
_access_log = logging.getLogger("build_cache.access")
_DURATION = Histogram(
    "build_cache_request_duration_seconds",
    "From the head of a request to the end of its response.",
    ["method", "status"],
)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits on requests and connections. Sizes are in bytes, durations in seconds."""

    max_header: int = 16 * 2**10
    max_body: int = 2**31
    max_connections: int = 1000
    idle_timeout: float = 90.0  # until the head of a request is there; some clients count on 75 s
    stall_timeout: float = 30.0  # without progress of a body or a response
    min_rate: int = 16 * 2**10  # per second; what falls `stall_timeout` behind is cut off

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"{name} is {value}; it must be more than 0")


class HttpError(Exception):
    """Ends a request: the response has this status, this text as its body, and these headers."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, text)
        self.status, self.text, self.headers = status, text, headers


class Connection:
    """A connection, and the bytes that were received and not read yet."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.scope = trio.CancelScope()  # its deadline limits the current wait
        self.peer = "?"
        with suppress(OSError):  # the client is gone already
            self.peer = stream.socket.getpeername()[0]
        self.ahead = b""

    async def read(self, limit: int) -> bytes:
        """Return the next bytes, at most this many; none if the client is gone."""
        if not self.ahead:
            with suppress(trio.BrokenResourceError):
                self.ahead = bytes(await self.stream.receive_some(limit))
        data, self.ahead = self.ahead[:limit], self.ahead[limit:]
        return data

    async def read_head(self, limit: int) -> bytes:
        """Return the head of the next request, or a part of it if it is too large or cut off."""
        data = b""
        while _END_OF_HEAD not in data and len(data) <= limit and (piece := await self.read(limit)):
            data += piece
        head, end, ahead = data.partition(_END_OF_HEAD)
        self.ahead = ahead + self.ahead
        return head + end

    async def finish(self) -> None:
        """Discard what the client still sends. It could lose the last response otherwise."""
        await self.stream.send_eof()
        while await self.read(_PIECE):
            pass


class Request:
    """A request, and the methods to receive its body and to respond to it.

    httptools calls `on_url` and `on_header`.
    """

    def __init__(self, connection: Connection, server: HttpServer) -> None:
        self.method = "-"  # until the head is parsed
        self.target = ""
        self.headers: defaultdict[str, str] = defaultdict(str)  # by their names in lower case
        self.segments: list[str] = []  # of the path, decoded
        self.query: dict[str, str] = {}
        self.size = 0  # of the body, in bytes
        self.unread = 0  # how many of them were not received
        self.is_answered = False
        self.keep_alive = False  # whether the client may send another request
        self._connection = connection
        self._server = server
        self._started = trio.current_time()
        connection.scope.deadline = self._started + server.limits.stall_timeout

    def on_url(self, part: bytes) -> None:
        self.target += part.decode("ascii")

    def on_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def parse(self, head: bytes) -> None:
        """Parse the head.

        Raises:
            HttpError: the request is refused.
        """
        limits = self._server.limits
        if len(head) > limits.max_header:
            raise HttpError(431, "the head is too large")
        if not head.endswith(_END_OF_HEAD):
            raise HttpError(400, "the head is cut off")
        parser = httptools.HttpRequestParser(self)
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            pass  # the client offers another protocol: a server may ignore that
        except httptools.HttpParserError as error:
            raise HttpError(400, str(error)) from None
        self.method = parser.get_method().decode()
        version = parser.get_http_version()
        if version not in ("1.0", "1.1") or (version == "1.1" and not self.headers["host"]):
            raise HttpError(400, "expected HTTP/1.1 and the header Host")
        # The parser has checked that the length is one number. A body without one is refused.
        length = self.headers["content-length"]
        if self.headers["transfer-encoding"] or (self.method == "PUT" and not length):
            raise HttpError(411, "Content-Length is missing")
        self.size = self.unread = int(length or 0)
        self.keep_alive = version == "1.1" and "close" not in self.headers["connection"].lower()
        if self.size > limits.max_body:
            raise HttpError(413, f"the body has more than {limits.max_body} bytes")
        self._parse_target()

    def _parse_target(self) -> None:
        path, _, query = self.target.partition("?")
        parts = path.removesuffix("/").split("/")[1:]  # WebDAV ends the path of a folder with "/"
        try:
            self.segments = [unquote(part, errors="strict") for part in parts]
            self.query = dict(parse_qsl(query, errors="strict"))
        except UnicodeDecodeError:
            raise HttpError(400, "the target is not UTF-8") from None
        if not path.startswith("/") or not all(map(is_plain, self.segments)):
            raise HttpError(400, "a segment of the path is empty, '.', '..' or not plain text")

    @property
    def is_last(self) -> bool:
        """Whether the connection ends with the response."""
        return not self.keep_alive or self.unread > 0 or self._server.is_draining

    async def read(self, limit: int) -> bytes:
        """Receive the whole body, which has at most this many bytes."""
        if self.size > limit:
            raise HttpError(413, f"the body has more than {limit} bytes")
        return b"".join([piece async for piece in self.body()])

    async def body(self) -> AsyncGenerator[bytes, None]:
        """Receive the body, piece by piece.

        Raises:
            HttpError: the client went away before the end of the body.
        """
        if self.unread and self.headers["expect"].lower() == "100-continue":
            await self._connection.stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        while self.unread:
            if sys.platform == "linux" and not self._connection.ahead:
                # Some clients send no body before the head is acknowledged.
                self._connection.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            piece = await self._connection.read(min(_PIECE, self.unread))
            if not piece:
                raise HttpError(400, "the body is cut off")
            self.unread -= len(piece)
            self._extend_deadline(len(piece))
            yield piece

    async def respond(
        self,
        status: int,
        body: bytes | AsyncGenerator[bytes, None] = b"",
        headers: Mapping[str, str] | None = None,
        *,
        size: int | None = None,
    ) -> None:
        """Send a response, whose body is bytes, or pieces with `size` bytes in all."""
        lines = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            f"date: {_date(int(time.time()))}",
            *(f"{name}: {value}" for name, value in (headers or {}).items()),
        ]
        if status != HTTPStatus.NO_CONTENT:
            lines.append(f"content-length: {len(body) if isinstance(body, bytes) else size}")
        if self.is_last:
            lines.append("connection: close")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        if self.method == "HEAD":
            body = b""
        send = self._connection.stream.send_all
        self.is_answered = True
        try:
            if isinstance(body, bytes):
                await send(head + body[:_PIECE])
                for start in range(_PIECE, len(body), _PIECE):
                    self._extend_deadline(_PIECE)
                    await send(body[start : start + _PIECE])
            else:
                await send(head)
                async with aclosing(body):
                    async for piece in body:
                        await send(piece)
                        self._extend_deadline(len(piece))
        finally:
            seconds = trio.current_time() - self._started
            method = self.method if self.method in METHODS else "other"
            _DURATION.labels(method, status).observe(seconds)
            line = (self._connection.peer, self.method, self.target, status, seconds * 1000)
            _access_log.info('%s "%s %.200s" %d %.1f ms', *line)

    def _extend_deadline(self, size: int) -> None:
        """Give the client more time, since this many bytes have moved."""
        limits, scope = self._server.limits, self._connection.scope
        latest = trio.current_time() + limits.stall_timeout
        scope.deadline = min(latest, scope.deadline + size / limits.min_rate)


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


def is_plain(segment: str) -> bool:
    """Return whether a segment of a path has one meaning only."""
    return segment not in ("", ".", "..") and "/" not in segment and segment.isprintable()


class HttpServer:
    """Serves connections, and passes each request to a handler."""

    def __init__(self, handler: Callable[[Request], Awaitable[None]], limits: Limits) -> None:
        """Set the handler, which responds to a request or raises `HttpError`, and the limits."""
        self.limits = limits
        self.is_draining = False
        self._handler = handler
        self._connections = 0
        # A scope for each connection that waits for a request, the longest waiting one first.
        self._waiting: OrderedDict[trio.CancelScope, None] = OrderedDict()

    async def serve(
        self, host: str, port: int, signals: AsyncIterator[int], drain_timeout: float
    ) -> None:
        """Serve until there is a signal; then finish the requests in progress, in this time."""
        listeners = await trio.open_tcp_listeners(port, host=host)
        async with trio.open_nursery() as connections:
            accept = partial(trio.serve_listeners, handler_nursery=connections)
            async with trio.open_nursery() as accepting:
                accepting.start_soon(accept, self._serve, listeners)
                for listener in listeners:
                    _log.info("listening on %s port %d", *listener.socket.getsockname()[:2])
                _log.info("%s: draining", signal.Signals(await anext(signals)).name)
                accepting.cancel_scope.cancel()
            self.is_draining = True
            for scope in self._waiting:
                scope.cancel()
            connections.cancel_scope.deadline = trio.current_time() + drain_timeout

    async def _serve(self, stream: trio.SocketStream) -> None:
        connection = Connection(stream)
        self._connections += 1
        if self._connections > self.limits.max_connections and self._waiting:
            longest, _ = self._waiting.popitem(last=False)
            longest.cancel()
        request = None
        try:
            with connection.scope:
                while head := await self._next_head(connection):
                    request = Request(connection, self)
                    await self._answer(request, head)
                    if request.is_last:
                        break
                    request = None
            if request is not None:
                with trio.move_on_after(_LINGER):
                    if not request.is_answered:  # its deadline has passed
                        status = 408 if request.unread else 503
                        request.keep_alive = False
                        await request.respond(status, b"it took too long\n")
                    await connection.finish()
        except trio.BrokenResourceError:
            pass  # the client is gone
        except Exception:  # noqa: BLE001  # an error in one connection must not end the others
            _log.exception("a connection failed")
        finally:
            self._connections -= 1

    async def _next_head(self, connection: Connection) -> bytes:
        connection.scope.deadline = trio.current_time() + self.limits.idle_timeout
        self._waiting[connection.scope] = None
        try:
            return await connection.read_head(self.limits.max_header)
        finally:
            self._waiting.pop(connection.scope, None)

    async def _answer(self, request: Request, head: bytes) -> None:
        try:
            request.parse(head)
            await self._handler(request)
        except Exception as error:
            if request.is_answered or isinstance(error, trio.BrokenResourceError):
                raise  # the client has a part of another response, or is gone
            refusal = _refusal(error)
            if refusal.status >= 500:
                _log.exception("%s %s failed", request.method, request.target)
            await request.respond(refusal.status, f"{refusal.text}\n".encode(), refusal.headers)


def _refusal(error: Exception) -> HttpError:
    """Return the response that an exception becomes."""
    match error:
        case HttpError():
            return error
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return HttpError(507, "the disk is full")
        case _:
            return HttpError(500, "internal error")
