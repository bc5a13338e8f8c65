"""An HTTP/1.1 server on Trio: a task for each connection, and h11 for the protocol.

A module named `http` would hide the one of the standard library.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import re
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache, partial
from http import HTTPStatus
from typing import BinaryIO, TypeAlias
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

Headers: TypeAlias = Sequence[tuple[str, str]]

METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PROPFIND")

_END = h11.EndOfMessage()
_BLOCK = 64 * 2**10
"""How many bytes of a body are received at once."""
_TICK = 0.5
"""How many seconds after its deadline a request may be cancelled."""
_LINGER = 2.0
"""How many seconds a refusal may take."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a client may ask of the server. Sizes are in bytes, durations in seconds."""

    max_header: int = 16 * 2**10
    max_body: int = 2**31
    max_connections: int = 1000
    idle_timeout: float = 90.0
    """How long a connection is kept for the next request. Some clients count on 75 s."""
    header_timeout: float = 10.0
    """How long the head of a request may take, from its first byte."""
    stall_timeout: float = 30.0
    """How long a body may make no progress, and how much time a body may take in addition to the
    time at `min_rate`."""
    min_rate: int = 16 * 2**10
    """How many bytes of a body must arrive or leave per second."""


class HttpError(Exception):
    """Ends a request: the response has this status, and this text as its body."""

    def __init__(self, status: int, text: str, *headers: tuple[str, str]) -> None:
        """Set the status, the text, and further headers."""
        super().__init__(status, text)
        self.status, self.text, self.headers = status, text, headers


class DisconnectedError(Exception):
    """The connection was closed by the client or is broken."""


class Request:
    """A request, and the methods to receive its body and to answer it."""

    def __init__(self, connection: Connection, head: h11.Request) -> None:
        self._connection = connection
        self._headers = dict(head.headers)
        self.method = head.method.decode()
        self.target = head.target.decode()
        """The path and the query as they were sent. h11 allows no control characters in it."""
        self.segments: list[str] = []
        """The decoded segments of the path."""
        self.query: dict[str, str] = {}
        self.size: int | None = 0
        """The size of the body in bytes; None if it arrives in chunks, and ends with the last."""
        self.status = 0
        """The status of the response; 0 before it is sent."""
        self.started = trio.current_time()

    def parse_target(self) -> None:
        """Split the target.

        Raises:
            HttpError: another server may understand the path differently.
        """
        path, _, query = self.target.partition("?")
        try:
            self.segments = [unquote(part, errors="strict") for part in path.split("/")[1:]]
            self.query = dict(parse_qsl(query, errors="strict"))
        except UnicodeDecodeError:
            raise HttpError(400, "the target is not UTF-8") from None
        if self.segments and not self.segments[-1]:
            del self.segments[-1]  # WebDAV ends the path of a folder with a slash
        if not path.startswith("/") or not all(map(_is_plain, self.segments)):
            raise HttpError(400, "the path has an empty segment, dots, or an encoded slash")

    def parse_size(self, limits: Limits) -> None:
        """Read the size of the body.

        Raises:
            HttpError: it is ambiguous, missing, or above the limit.
        """
        length = self.header(b"content-length")  # h11 has checked that it is a number
        if not self.header(b"transfer-encoding"):
            self.size = int(length or 0)
        elif length:
            raise HttpError(400, "a body has either Content-Length or Transfer-Encoding")
        else:
            self.size = None
        if self.method == "PUT" and self.size == 0 and not length:
            raise HttpError(411, "Content-Length is missing")
        if self.size is not None and self.size > limits.max_body:
            raise HttpError(413, f"the body has more than {limits.max_body} bytes")

    def header(self, name: bytes) -> str:
        """Return the value of a header, by its name in lower case; "" without it."""
        return self._headers.get(name, b"").decode("latin-1")

    async def body(self) -> AsyncGenerator[bytes, None]:
        """Receive the body.

        Raises:
            HttpError: the body is too large.
            DisconnectedError: the client went away before the end of the body.
        """
        if self.size == 0:
            return  # the end of the request was received with its head
        received = 0
        while type(event := await self._connection.next_event(_BLOCK)) is h11.Data:
            received += len(event.data)
            if received > self._connection.limits.max_body:
                raise HttpError(413, f"the body has more than {received} bytes")
            yield bytes(event.data)

    async def respond(self, status: int, body: bytes = b"", headers: Headers = ()) -> None:
        """Send a response whose body is in memory."""
        head = self._head(status, len(body), headers)
        data = b"" if self.method == "HEAD" else body
        await self._connection.send(head, h11.Data(data=data), _END)

    async def respond_file(
        self, file: BinaryIO, size: int, headers: Headers = (), content: bytes | None = None
    ) -> None:
        """Send a file, or the range of it that the request asks for.

        Args:
            file: the file.
            size: its size in bytes.
            headers: further headers.
            content: the bytes of the file, if they are in memory.
        """
        asked = "" if self.header(b"if-range") else self.header(b"range")
        start, stop = parse_range(asked, size) or (0, size)
        headers = [*headers, ("accept-ranges", "bytes")]
        status = 200
        if stop - start < size:
            status = 206
            headers.append(("content-range", f"bytes {start}-{stop - 1}/{size}"))
        head = self._head(status, stop - start, headers)
        if self.method == "HEAD":
            await self._connection.send(head, _END)
        elif content is not None:
            data = h11.Data(data=content[start:stop])
            await self._connection.send(head, data, _END)
        else:
            await self._connection.send(head)
            await self._connection.send_file(file, start, stop)

    def _head(self, status: int, size: int, headers: Headers) -> h11.Response:
        self.status = status
        headers = [("date", _date(int(time.time()))), ("content-length", str(size)), *headers]
        if self._connection.is_last or self._connection.is_unread:
            headers.append(("connection", "close"))
        return h11.Response(
            status_code=status, headers=headers, reason=HTTPStatus(status).phrase.encode()
        )


@lru_cache(1)
def _date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def _is_plain(segment: str) -> bool:
    return segment not in ("", ".", "..") and "/" not in segment and segment.isprintable()


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Return the first byte of a range and the one behind it; None if the whole file is sent.

    Raises:
        HttpError: the file has no byte in the range.
    """
    unit, _, ranges = header.partition("=")
    first, dash, last = ranges.strip().partition("-")
    digits = first + last
    if unit != "bytes" or not dash or not re.fullmatch("[0-9]{1,30}", digits):
        return None  # no range, several, or one that makes no sense: RFC 9110, 14.2
    if first:
        start, stop = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < int(first):
            return None
    else:
        start, stop = max(size - int(last), 0), size
    if start >= stop:
        raise HttpError(416, "the range is behind the end", ("content-range", f"bytes */{size}"))
    return start, stop


class Connection:
    """A connection to a client, on a socket that does not block."""

    def __init__(self, stream: trio.SocketStream, limits: Limits) -> None:
        self.limits = limits
        self.scope = trio.CancelScope()
        self.deadline = math.inf
        """When the scope is cancelled, unless the client makes progress before."""
        self.request: Request | None = None
        """The request in progress; None while the next one is expected."""
        self.is_last = False
        """Whether the connection is closed after the response in progress."""
        self._socket = socket.socket(fileno=stream.socket.detach())
        self._socket.setblocking(False)
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.max_header)
        self._moved = 0
        self.peer = "?"
        with suppress(OSError):  # it is gone already
            self.peer = self._socket.getpeername()[0]

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    @property
    def is_unread(self) -> bool:
        """Whether the client may still send something that nobody reads."""
        return self._h11.their_state in (h11.SEND_BODY, h11.ERROR)

    async def next_request(self) -> Request | None:
        """Receive the head of the next request; None if there is none."""
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
        if self.is_last or self._h11.our_state is not h11.IDLE:
            return None
        try:
            if self._h11.trailing_data[0]:
                await trio.lowlevel.checkpoint()
            else:
                self.deadline = trio.current_time() + self.limits.idle_timeout
                self._h11.receive_data(await self._receive(self.limits.max_header))
            self.deadline = trio.current_time() + self.limits.header_timeout
            head = await self.next_event(self.limits.max_header)
        except h11.RemoteProtocolError as error:
            text = str(error).encode()
            headers = [("content-length", str(len(text))), ("connection", "close")]
            response = h11.Response(status_code=error.error_status_hint, headers=headers)
            await self.send(response, h11.Data(data=text), _END)
            return None
        if not isinstance(head, h11.Request):
            return None
        self._moved = 0
        self.request = Request(self, head)
        self._progress(0)
        return self.request

    async def next_event(self, size: int) -> h11.Event | type[h11.PAUSED]:
        """Receive, up to this many bytes at once, until the next event is complete."""
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            if self._h11.they_are_waiting_for_100_continue:
                await self.send(h11.InformationalResponse(status_code=100, headers=[]))
            self._h11.receive_data(await self._receive(size))
        return event  # type: ignore[return-value]  # it is not NEED_DATA

    async def _receive(self, size: int) -> bytes:
        await trio.lowlevel.wait_readable(self._socket)
        try:
            data = self._socket.recv(size)
        except BlockingIOError:
            return await self._receive(size)
        except OSError as error:
            raise DisconnectedError from error
        if not data:
            raise DisconnectedError
        self._progress(len(data))
        return data

    async def send(self, *events: h11.Event) -> None:
        """Send events, in one piece if the socket takes them."""
        data = b"".join([self._h11.send(event) or b"" for event in events])
        while data:
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)
            except OSError as error:
                raise DisconnectedError from error
            else:
                self._progress(sent)
                data = data[sent:]

    async def send_file(self, file: BinaryIO, start: int, stop: int) -> None:
        """Send a part of a file as the body, without a copy of it in this process.

        The disk may be slow, so threads make the system calls. They do not wait for the client.
        """
        body = h11.Data(data=range(start, stop))  # type: ignore[arg-type]  # only its length counts
        self._h11.send_with_data_passthrough(body)
        while start < stop:
            await trio.lowlevel.wait_writable(self._socket)
            call = partial(os.sendfile, self._socket.fileno(), file.fileno())
            try:
                sent = await trio.to_thread.run_sync(call, start, min(stop - start, 2**20))
            except BlockingIOError:
                continue
            except ConnectionError as error:
                raise DisconnectedError from error
            if not sent:
                raise EOFError(f"a file ends {stop - start} bytes early")
            start += sent
            self._progress(sent)
        self._h11.send(_END)

    def _progress(self, size: int) -> None:
        """Move the deadline of a request in progress."""
        if self.request is not None:
            self._moved += size
            stall = self.limits.stall_timeout
            average = self.request.started + stall + self._moved / self.limits.min_rate
            self.deadline = min(trio.current_time() + stall, average)

    async def linger(self) -> None:
        """Let a client that still sends read the response, before the connection is closed."""
        with trio.move_on_after(_LINGER), suppress(OSError, DisconnectedError):
            self._socket.shutdown(socket.SHUT_WR)
            while True:
                await self._receive(_BLOCK)


class HttpServer:
    """Serves connections, and passes each request to a handler."""

    def __init__(self, handler: Callable[[Request], Awaitable[None]], limits: Limits) -> None:
        """Set the handler and the limits.

        Args:
            handler: answers a request; raises `HttpError` to refuse it.
            limits: what a client may ask.
        """
        self._handler = handler
        self._limits = limits
        self._connections: set[Connection] = set()
        self._draining = False

    async def serve(
        self, listeners: Sequence[trio.SocketListener], stop: trio.Event, drain_timeout: float
    ) -> None:
        """Serve until the event is set, and then finish the requests in progress.

        Args:
            listeners: the sockets.
            stop: ends the server.
            drain_timeout: after how many seconds the requests in progress are cancelled.
        """
        async with trio.open_nursery() as connections:
            accept = partial(trio.serve_listeners, handler_nursery=connections)
            async with trio.open_nursery() as accepting:
                accepting.start_soon(accept, self._serve, listeners)
                accepting.start_soon(self._enforce_deadlines)
                await stop.wait()
                accepting.cancel_scope.cancel()
            self._draining = True
            for connection in self._connections:
                connection.is_last = True
                if connection.request is None:
                    connection.scope.cancel()
            connections.cancel_scope.deadline = trio.current_time() + drain_timeout

    async def _enforce_deadlines(self) -> None:
        """Cancel requests and connections whose deadline has passed.

        Each block of a body moves a deadline. To move that of a scope of Trio would take longer.
        """
        while True:
            await trio.sleep(_TICK)
            now = trio.current_time()
            for connection in self._connections:
                if connection.deadline <= now:
                    connection.scope.cancel()

    async def _serve(self, stream: trio.SocketStream) -> None:
        connection = Connection(stream, self._limits)
        connection.is_last = self._draining
        waiting = [other for other in self._connections if other.request is None]
        if len(self._connections) >= self._limits.max_connections and waiting:
            min(waiting, key=lambda other: other.deadline).scope.cancel()
        self._connections.add(connection)
        try:
            with connection.scope:
                while (request := await connection.next_request()) is not None:
                    await self._answer(connection, request)
            if (request := connection.request) is not None:  # its deadline has passed
                connection.is_last = True
                status = 408 if connection.is_unread else 503
                await _refuse(request, HttpError(status, "it took too long"))
            if connection.is_unread:
                await connection.linger()
        except (DisconnectedError, OSError):
            pass
        except Exception:  # noqa: BLE001  # an error in one connection ends no other one
            _log.exception("a connection failed")
        finally:
            self._finish(connection)
            self._connections.discard(connection)
            connection.close()

    async def _answer(self, connection: Connection, request: Request) -> None:
        """Pass a request to the handler."""
        try:
            request.parse_size(self._limits)
            if request.size == 0:
                await connection.next_event(_BLOCK)  # the end of the request
            request.parse_target()
            await self._handler(request)
        except DisconnectedError:
            raise
        except Exception as error:  # noqa: BLE001  # it is logged, unless it is the client's
            await _refuse(request, _http_error(request, error))
        self._finish(connection)

    def _finish(self, connection: Connection) -> None:
        """Log and count the request in progress."""
        request, connection.request = connection.request, None
        if request is None:
            return
        seconds = trio.current_time() - request.started
        method = request.method if request.method in METHODS else "other"
        _DURATION.labels(method, request.status).observe(seconds)
        _access_log.info(
            '%s "%s %.200s" %d %.1f ms',
            *(connection.peer, request.method, request.target, request.status, seconds * 1000),
        )


def _http_error(request: Request, error: Exception) -> HttpError:
    """Return the error that ends a request after this one, and log what is not the client's."""
    match error:
        case HttpError():
            return error
        case h11.RemoteProtocolError():  # in a body
            return HttpError(error.error_status_hint, str(error))
    _log.error("%s %s failed", request.method, request.target, exc_info=error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HttpError(507, "the disk is full")
    return HttpError(500, "internal error")


async def _refuse(request: Request, error: HttpError) -> None:
    """Send an error as the response, unless a part of another one was sent."""
    if not request.status:
        with trio.move_on_after(_LINGER):
            await request.respond(error.status, f"{error.text}\n".encode(), error.headers)
