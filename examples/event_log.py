"""Collect the requests of web servers over TCP, in SQLite or in ClickHouse.

Each line of a connection is a JSON object: {"path": "/", "milliseconds": 12}. The stores differ in
one line, in `open_store`.
"""

import argparse
import signal
from contextlib import AbstractAsyncContextManager
from datetime import UTC, date, datetime
from functools import partial
from typing import Annotated, Any, NamedTuple
from uuid import UUID, uuid4

import msgspec
import trio

import forebay
from forebay.stores import Store
from forebay.stores.clickhouse import open_clickhouse

MAX_LINE = 1 << 16  # bytes


class Line(msgspec.Struct):
    """A request as a web server sends it. msgspec checks the types and the ranges."""

    path: Annotated[str, msgspec.Meta(max_length=1000)]
    milliseconds: Annotated[int, msgspec.Meta(ge=0, le=10**9)]


class Request(NamedTuple):
    id: UUID
    time: datetime
    path: str
    milliseconds: int


class Traffic(NamedTuple):
    day: date
    path: str
    requests: int
    slowest: int


requests = forebay.Table(Request, name="requests")  # without a key: rows are only appended
traffic = forebay.Table(
    Traffic,
    name="traffic",
    key=("day", "path"),
    merge={"requests": forebay.Sum, "slowest": forebay.Max},
)
TABLES: list[forebay.Table[Any]] = [requests, traffic]


def open_store(clickhouse: str | None) -> AbstractAsyncContextManager[Store]:
    if clickhouse is None:
        return forebay.open_sqlite("events.db", create=TABLES)
    return open_clickhouse(clickhouse, spool="events.spool.db", create=TABLES)


async def accept(text: bytes, buffers: forebay.Buffers) -> None:
    line = msgspec.json.decode(text, type=Line)
    now = datetime.now(UTC)
    # Both calls wait while a buffer is full. Then the connection is not read, and the client waits.
    await buffers[requests].enqueue(Request(uuid4(), now, line.path, line.milliseconds))
    await buffers[traffic].enqueue(Traffic(now.date(), line.path, 1, line.milliseconds))


async def receive(buffers: forebay.Buffers, stream: trio.SocketStream) -> None:
    """Accept the lines of a connection, answer malformed ones, and send a summary at the end."""
    accepted = refused = 0
    rest = b""
    try:
        async for chunk in stream:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                try:
                    await accept(line, buffers)
                    accepted += 1
                except msgspec.DecodeError as error:
                    refused += 1
                    await stream.send_all(f"line {accepted + refused}: {error}\n".encode())
            if len(rest) > MAX_LINE:
                await stream.send_all(b"the line is too long\n")
                return
        refused += rest != b""  # a line without its end was cut off
        await stream.send_all(f"accepted {accepted}, refused {refused}\n".encode())
    except trio.BrokenResourceError:
        return  # the client has gone; what was accepted is written all the same


async def end_on_signal(
    work: trio.CancelScope, buffers: forebay.Buffers, task_status: trio.TaskStatus[None]
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        await anext(signals)
        work.cancel()  # then the buffers drain
        await anext(signals)
        buffers.give_up()  # a second signal ends the drain


async def main(clickhouse: str | None, port: int) -> None:
    async with open_store(clickhouse) as store, trio.open_nursery() as tasks:
        async with forebay.open_buffers(store, *TABLES) as buffers:
            with trio.CancelScope() as work:
                await tasks.start(end_on_signal, work, buffers)
                [listener] = await trio.open_tcp_listeners(port, host="127.0.0.1")
                print("listening at", *listener.socket.getsockname(), flush=True)
                await trio.serve_listeners(partial(receive, buffers), [listener])
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clickhouse", help="http://HOST:PORT; without it, SQLite")
    parser.add_argument("--port", type=int, default=8200)
    arguments = parser.parse_args()
    trio.run(main, arguments.clickhouse, arguments.port)
