"""What is no answer of ClickHouse, and what passwords may contain."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio

from forebay.stores.clickhouse._client import Client
from forebay.stores.clickhouse._failures import Meaning, NoAnswerError, ServerError

pytest.importorskip("httpx")

Serve = Callable[[trio.SocketStream], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\n"
FROM_CLICKHOUSE = b"X-ClickHouse-Query-Id: 1\r\n"


@asynccontextmanager
async def client_of(serve: Serve, password: str = "") -> AsyncIterator[Client]:
    async def handle(stream: trio.SocketStream) -> None:
        # The client may close its connection.
        with trio.move_on_after(30), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await serve(stream)

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        async with Client(
            f"http://127.0.0.1:{listener.socket.getsockname()[1]}",
            user="u",
            password=password,
            verify=True,
            connect_timeout=5.0,
        ) as client:
            yield client
        nursery.cancel_scope.cancel()


async def insert(client: Client) -> None:
    await client.insert("INSERT", b"rows", compression="", token="t", timeout=1.0)  # noqa: S106  # of a block


def always(answer: bytes) -> Serve:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)

    return serve


def endless(start: bytes, part: bytes, pause: float = 0.0) -> Serve:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(start)
        while True:
            await stream.send_all(part)
            await trio.sleep(pause)

    return serve


async def test_an_acknowledgement_is_empty_and_clickhouses() -> None:
    """Another web server that answers 200 has stored nothing."""
    async with client_of(always(OK + FROM_CLICKHOUSE + b"Content-Length: 0\r\n\r\n")) as client:
        await insert(client)


@pytest.mark.parametrize(
    "serve",
    [
        pytest.param(always(b""), id="nothing"),
        pytest.param(always(b"\0\xffgarbage\r\n\r\n"), id="garbage"),
        pytest.param(always(OK + b"Content-Length: 0\r\n\r\n"), id="another web server"),
        pytest.param(always(OK + FROM_CLICKHOUSE + b"Content-Length: 2\r\n\r\nhi"), id="a result"),
        pytest.param(
            always(
                OK
                + b'X-ClickHouse-Summary: {"read_rows":"0","read_bytes":"0","written_rows":"0"}\r\n'
                b"Content-Length: 0\r\n\r\n"
            ),
            id="nothing was inserted",
        ),
        pytest.param(always(OK + FROM_CLICKHOUSE + b"Content-Length: 9\r\n\r\n"), id="cut short"),
        pytest.param(
            always(
                b"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
            ),
            id="a redirection",
        ),
        pytest.param(
            always(
                b"HTTP/1.1 500 No\r\nX-ClickHouse-Exception-Code: "
                + b"9" * 5000
                + b"\r\nContent-Length: 0\r\n\r\n"
            ),
            id="a code that is none",
        ),
        pytest.param(
            endless(
                OK + FROM_CLICKHOUSE + b"Transfer-Encoding: chunked\r\n\r\n", b"4\r\n    \r\n" * 999
            ),
            id="spaces without end",
        ),
        pytest.param(endless(OK, b"X-A: b\r\n" * 999), id="headers without end"),
        pytest.param(
            endless(OK + FROM_CLICKHOUSE + b"Content-Length: 999\r\n\r\n", b" ", 0.05), id="drops"
        ),
    ],
)
async def test_what_is_no_acknowledgement_leaves_the_block_in_doubt(serve: Serve) -> None:
    """It is sent again. Little of the answer is read, and no answer takes longer than a request."""
    async with client_of(serve) as client:
        with trio.fail_after(20), pytest.raises(NoAnswerError) as failed:
            await insert(client)
    assert Meaning.IN_DOUBT is failed.value.meaning


async def test_of_an_error_without_end_the_beginning_is_kept() -> None:
    """Its code says what to do."""
    serve = endless(
        b"HTTP/1.1 500 No\r\nX-ClickHouse-Exception-Code: 241\r\nContent-Length: 999999999\r\n\r\n",
        b"m" * 100_000,
    )
    async with client_of(serve) as client:
        with trio.fail_after(20), pytest.raises(ServerError) as failed:
            await insert(client)
    assert Meaning.TRANSIENT is failed.value.meaning
    assert len(str(failed.value)) < 3_000


async def test_an_answer_may_contain_rows_so_no_log_contains_it() -> None:
    """Such as that of a server that sends back what it was sent."""
    async with client_of(always(OK + b"Content-Length: 4\r\n\r\nrows")) as client:
        with pytest.raises(NoAnswerError, match="rows") as failed:
            await insert(client)
    assert "rows" not in failed.value.summary


@pytest.mark.parametrize("password", ["", "a: b ", "ä\n\0", "\udcff"])
async def test_a_password_of_any_bytes_is_sent(password: str) -> None:
    """In Basic authentication, whose encoding leaves nothing to quote, and nothing to show."""
    received: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        received.append(await stream.receive_some())
        await stream.send_all(OK + FROM_CLICKHOUSE + b"Content-Length: 0\r\n\r\n")

    async with client_of(serve, password) as client:
        await insert(client)
    [line] = [line for line in received[0].split(b"\r\n") if line.startswith(b"Authorization:")]
    sent = base64.b64decode(line.rpartition(b" ")[2])
    assert b"u:" + password.encode(errors="surrogateescape") == sent
