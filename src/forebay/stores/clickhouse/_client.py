"""HTTP requests to ClickHouse: queries, and one INSERT per block."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import trio

from forebay.stores.clickhouse._failures import NoAnswerError, ServerError

if TYPE_CHECKING:
    import httpx

INSERT_SETTINGS: Final = {
    "async_insert": "0",  # a queue in the server would acknowledge rows that it can lose
    "insert_deduplicate": "1",
    "deduplicate_blocks_in_dependent_materialized_views": "1",
    "input_format_null_as_default": "0",
    "distributed_foreground_insert": "1",
    "wait_end_of_query": "1",  # or the status is 200 although the INSERT fails later
}
"""The settings of every INSERT, beside its token."""

_MAX_MESSAGE: Final = 2_000
"""How many characters of a server's error are kept."""


class _Body:
    """The body of a request, in one piece.

    httpx's own is an async generator. A cut connection leaves it unfinished, and Trio warns.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Once(self._data)

    async def aclose(self) -> None:
        """Do nothing: there is nothing to close."""


class _Once(AsyncIterator[bytes]):
    def __init__(self, data: bytes) -> None:
        self._left = [data]

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()


class Client:
    """A client of one server, with connections that are kept alive.

    Args:
        url: scheme, host and port.
        user: the user.
        password: the password, which is sent in a header.
        verify: how the server's certificate is verified, for an HTTPS URL.
        connect_timeout: how long a connection may take, in seconds.

    Raises:
        ImportError: the extra `clickhouse` is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        user: str,
        password: str,
        verify: bool | ssl.SSLContext,
        connect_timeout: float,
    ) -> None:
        try:
            import httpx  # noqa: PLC0415  # forebay works without this extra
        except ImportError as error:
            raise ImportError(
                "open_clickhouse needs httpx; install it with `pip install 'forebay[clickhouse]'`"
            ) from error
        self._httpx = httpx
        # A class that is derived from the class of a library that may be missing.
        self._body_type: Any = type("Body", (_Body, httpx.AsyncByteStream), {})
        self._http: httpx.AsyncClient = httpx.AsyncClient(
            base_url=url,
            headers={"X-ClickHouse-User": user, "X-ClickHouse-Key": password},
            # A context takes 50 ms to load, and an HTTP URL needs none.
            verify=verify if url.startswith("https:") else False,
            # Each call has a deadline for the request as a whole.
            timeout=httpx.Timeout(None, connect=connect_timeout),
            trust_env=False,  # a proxy or a .netrc of the environment is not asked for
        )
        self.insert_settings: Mapping[str, str] = dict(INSERT_SETTINGS)
        """The settings of every INSERT, beside its token. Older servers do not know all."""

    def know_version(self, version: str) -> None:
        """Send the settings that this version of ClickHouse knows."""
        if version_numbers(version) >= (26, 2):
            self.insert_settings = {**INSERT_SETTINGS, "deduplicate_insert": "enable"}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with trio.move_on_after(1, shield=True):
            await self._http.aclose()

    async def query(self, sql: str, *, timeout: float) -> list[dict[str, Any]]:  # noqa: ASYNC109  # httpx has no deadline of its own
        """Execute a query and return its rows.

        Args:
            sql: a SELECT without FORMAT.
            timeout: how long the request may take, in seconds.

        Raises:
            ServerError: ClickHouse refused the query.
            NoAnswerError: ClickHouse did not answer in time.
        """
        answer = await self._post(
            {"wait_end_of_query": "1", "output_format_json_quote_64bit_integers": "0"},
            f"{sql}\nFORMAT JSON".encode(),
            timeout,
        )
        try:
            rows: list[dict[str, Any]] = json.loads(answer)["data"]
        except (ValueError, TypeError, KeyError):
            raise NoAnswerError("UnexpectedAnswer", _shorten(repr(answer))) from None
        return rows

    async def execute(self, sql: str, *, timeout: float) -> None:  # noqa: ASYNC109  # see query
        """Execute a statement without a result. Arguments and errors are those of `query`."""
        await self._post({"wait_end_of_query": "1"}, sql.encode(), timeout)

    async def insert(
        self,
        sql: str,
        body: bytes,
        *,
        compression: str,
        token: str,
        timeout: float,  # noqa: ASYNC109  # see query
    ) -> None:
        """Insert one block. Return once ClickHouse has acknowledged it.

        Args:
            sql: the INSERT statement, which ends with its format.
            body: the block, compressed.
            compression: the name of the compression; empty for none.
            token: by which the server recognises the block if it is sent again.
            timeout: how long the request may take, in seconds.

        Raises:
            ServerError: ClickHouse refused the block, or a part of it.
            NoAnswerError: ClickHouse did not answer in time.
        """
        parameters = {
            "query": sql,
            **self.insert_settings,
            "insert_deduplication_token": token,
        }
        headers = {"Content-Encoding": compression} if compression else {}
        answer = await self._post(parameters, body, timeout, headers)
        if answer.strip():  # an INSERT has no result, so this is an error after the status 200
            raise NoAnswerError("UnexpectedAnswer", _shorten(answer.decode(errors="replace")))

    async def _post(
        self,
        parameters: Mapping[str, str],
        body: bytes,
        timeout: float,  # noqa: ASYNC109  # see query
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        try:
            with trio.fail_after(timeout):
                request = self._http.build_request(
                    "POST", "/", params=dict(parameters), headers=dict(headers or {})
                )
                request.headers["Content-Length"] = str(len(body))
                request.stream = self._body_type(body)
                response = await self._http.send(request)
        except trio.TooSlowError:
            raise NoAnswerError("Timeout", f"no answer within {timeout} s") from None
        except (self._httpx.TransportError, self._httpx.DecodingError) as error:
            not_connected = isinstance(error, self._httpx.ConnectError | self._httpx.ConnectTimeout)
            raise NoAnswerError(
                type(error).__name__, str(error), was_sent=not not_connected
            ) from error
        code = response.headers.get("X-ClickHouse-Exception-Code", "")
        if code.isdecimal():
            raise ServerError(int(code), _shorten(response.text))
        if response.status_code != 200:
            # Not ClickHouse, but a load balancer before it, or a URL that is not ClickHouse's.
            raise NoAnswerError(f"HTTP_{response.status_code}", _shorten(response.text))
        content: bytes = response.content
        return content


def version_numbers(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version of ClickHouse, such as ``(24, 8)``."""
    return tuple(int(part) for part in version.split(".")[:2])


def _shorten(text: str) -> str:
    text = text.strip()
    return text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]}…"
