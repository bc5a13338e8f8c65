"""An HTTP/1.1 server on Trio: a task for each connection, and h11 for the protocol.

A module named `http` would hide the one of the standard library.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from typing import BinaryIO
from urllib.parse import parse_qsl, unquote

import h11
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
    """The state of a connection, and the deadline of what it waits for."""

    def __init__(self, stream: trio.SocketStream, limits: Limits) -> None:
        self.limits = limits
        self.scope = trio.CancelScope()
        self.request: Request | None = None
        """The request in progress; None until the head of the next one is complete."""
        self.is_last = False
        """Whether the connection is closed after the response in progress."""
        self.peer = "?"
        with suppress(OSError):  # it is gone already
            self.peer = stream.socket.getpeername()[0]
        self._stream = stream
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.max_header)
        self._moved = 0

    @property
    def is_unread(self) -> bool:
        """Whether the client may still send something that nobody reads."""
        return self._h11.their_state in (h11.SEND_BODY, h11.ERROR)

    def begins(self) -> bool:
        """Return whether there may be another request, and begin to wait for it."""
        self.request, self._moved = None, 0
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
        self.scope.deadline = trio.current_time() + self.limits.idle_timeout
        return not self.is_last and self._h11.our_state is self._h11.their_state is h11.IDLE

    async def receive(self) -> h11.Event | type[h11.PAUSED]:
        """Wait for the next event: the head of a request, a piece of its body, or its end.

        Raises:
            h11.RemoteProtocolError: it is not HTTP, or the client went away in its middle.
        """
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            if self._h11.they_are_waiting_for_100_continue:
                await self.send(h11.InformationalResponse(status_code=100, headers=[]))
            data = b""
            with suppress(trio.BrokenResourceError):  # the client went away
                size = _PIECE if self.request else self.limits.max_header
                data = await self._stream.receive_some(size)
            self._h11.receive_data(data)
            self.move_deadline(len(data))
        return event  # type: ignore[return-value]  # it is not NEED_DATA

    async def send(self, *events: h11.Event) -> None:
        """Send events, all at once."""
        if data := b"".join([self._h11.send(event) or b"" for event in events]):
            await self._stream.send_all(data)
            self.move_deadline(len(data))

    def move_deadline(self, size: int = 0) -> None:
        """Move the deadline of the request in progress, of which this many bytes have moved."""
        if self.request is not None:
            self._moved += size
            slowest = self.request.started + self._moved / self.limits.min_rate
            self.scope.deadline = min(trio.current_time(), slowest) + self.limits.stall_timeout

    async def linger(self) -> None:
        """Let a client that still sends read the response, before the connection is closed."""
        await self._stream.send_eof()
        while await self._stream.receive_some(_PIECE):
            pass


class Request:
    """A request, and the methods to receive its body and to answer it."""

    def __init__(self, connection: Connection) -> None:
        self.method = self.target = "-"  # until the head is complete
        self.segments: list[str] = []
        """The decoded segments of the path."""
        self.query: dict[str, str] = {}
        self.size = 0
        """The size of the body in bytes."""
        self.started = trio.current_time()
        self._connection = connection
        self._headers: dict[bytes, bytes] = {}
        self._is_answered = False

    async def receive_head(self) -> bool:
        """Receive and check all but the body; return False if there is no request."""
        head = await self._connection.receive()
        if not isinstance(head, h11.Request):
            return False
        self.started = trio.current_time()
        self._connection.request = self
        self._connection.move_deadline()
        self.method, self.target = head.method.decode(), head.target.decode()
        self._headers = dict(head.headers)
        # h11 has checked that the length is one number. A body of unknown length is not accepted.
        length = self.header("content-length")
        if self.header("transfer-encoding") or (self.method == "PUT" and not length):
            raise HttpError(411, "Content-Length is missing")
        self.size = int(length or 0)
        self.require_size(self._connection.limits.max_body)
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
        return True

    def header(self, name: str) -> str:
        """Return the value of a header, by its name in lower case; "" without it."""
        return self._headers.get(name.encode(), b"").decode("latin-1")

    def require_size(self, limit: int) -> None:
        """Refuse a body with more than this many bytes."""
        if self.size > limit:
            raise HttpError(413, f"the body has more than {limit} bytes")

    async def body(self) -> AsyncGenerator[bytes, None]:
        """Receive the body, piece by piece.

        Raises:
            h11.RemoteProtocolError: the client went away before the end of the body.
        """
        while self.size and isinstance(event := await self._connection.receive(), h11.Data):
            yield bytes(event.data)

    async def read(self, limit: int) -> bytes:
        """Receive a body that has at most this many bytes."""
        self.require_size(limit)
        return b"".join([piece async for piece in self.body()])

    async def respond(
        self, status: int, body: bytes | BinaryIO = b"", headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Send a response, whose body is bytes, or a file that is sent piece by piece."""
        size = len(body) if isinstance(body, bytes) else os.fstat(body.fileno()).st_size
        headers = [("date", formatdate(usegmt=True)), ("content-length", str(size)), *headers]
        if self._connection.is_last or self._connection.is_unread:
            headers.append(("connection", "close"))
        reason = HTTPStatus(status).phrase.encode()
        head = h11.Response(status_code=status, headers=headers, reason=reason)
        self._is_answered = True
        try:
            if self.method == "HEAD":
                await self._connection.send(head, h11.EndOfMessage())
            elif isinstance(body, bytes):
                await self._connection.send(head, h11.Data(data=body), h11.EndOfMessage())
            else:
                await self._connection.send(head)
                for start in range(0, size, _PIECE):  # in threads, since the disk may be slow
                    data = await trio.to_thread.run_sync(os.pread, body.fileno(), _PIECE, start)
                    await self._connection.send(h11.Data(data=data))
                await self._connection.send(h11.EndOfMessage())
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
            case h11.RemoteProtocolError():
                refusal = HttpError(error.error_status_hint, str(error))
            case OSError(errno=errno.ENOSPC | errno.EDQUOT):
                refusal = HttpError(507, "the disk is full")
            case _:
                refusal = HttpError(500, "internal error")
        if refusal.status >= 500:
            _log.error("%s %s failed", self.method, self.target, exc_info=error)
        await self.respond(refusal.status, f"{refusal.text}\n".encode(), refusal.headers)


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
                    await self._answer(Request(connection))
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

    async def _answer(self, request: Request) -> None:
        try:
            if await request.receive_head():
                await self._handler(request)
        except Exception as error:  # noqa: BLE001  # it becomes the response
            await request.refuse(error)
