"""HTTP requests to ClickHouse: queries, and one INSERT per block."""

from __future__ import annotations

import json
import re
import ssl
from base64 import b64encode
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
    # A column whose type was changed since its values were checked would get other values.
    "input_format_native_allow_types_conversion": "0",
    "distributed_foreground_insert": "1",
    "wait_end_of_query": "1",  # or the status is 200 although the INSERT fails later
}
"""The settings of every INSERT, beside its token."""

_MAX_MESSAGE: Final = 2_000
"""How many characters of a server's error are kept."""

_MAX_ANSWER: Final = 1 << 16
_MAX_RESULT: Final = 1 << 24
"""How many bytes of an answer, or of a query's result, are read: what answers may be anything."""


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
        password: the password.
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
        self.user = user
        self._httpx = httpx
        # A class that is derived from the class of a library that may be missing.
        self._body_type: Any = type("Body", (_Body, httpx.AsyncByteStream), {})
        self._http: httpx.AsyncClient = httpx.AsyncClient(
            base_url=url,
            headers={
                "Authorization": _basic_credentials(user, password),
                "Accept-Encoding": "identity",  # a small answer could become a large one
            },
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
        answer, _ = await self._post(
            {"wait_end_of_query": "1", "output_format_json_quote_64bit_integers": "0"},
            f"{sql}\nFORMAT JSON".encode(),
            timeout,
            limit=_MAX_RESULT,
        )
        try:
            return [dict(row) for row in json.loads(answer)["data"]]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise _not_clickhouse("UnexpectedAnswer", answer) from None

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
        answer, summary = await self._post(parameters, body, timeout, headers)
        if answer.strip():  # an INSERT has no result, so this is an error after the status 200
            raise _not_clickhouse("UnexpectedAnswer", answer)
        if _NO_ROWS.search(summary):
            raise NoAnswerError(
                "NoRows",
                "ClickHouse got the INSERT without its rows: a proxy in between may have lost them",
            )

    async def _post(
        self,
        parameters: Mapping[str, str],
        body: bytes,
        timeout: float,  # noqa: ASYNC109  # see query
        headers: Mapping[str, str] | None = None,
        *,
        limit: int = _MAX_ANSWER,
    ) -> tuple[bytes, str]:
        """Send a request. Return the answer of ClickHouse, and its summary of what it did."""
        try:
            with trio.fail_after(timeout):
                request = self._http.build_request(
                    "POST", "/", params=dict(parameters), headers=dict(headers or {})
                )
                request.headers["Content-Length"] = str(len(body))
                request.stream = self._body_type(body)
                response = await self._http.send(request, stream=True)
                try:
                    answer = await self._read(response, limit)
                finally:
                    await response.aclose()
        except trio.TooSlowError:
            raise NoAnswerError("Timeout", f"no answer within {timeout} s") from None
        except self._httpx.TransportError as error:
            not_connected = isinstance(error, self._httpx.ConnectError | self._httpx.ConnectTimeout)
            raise NoAnswerError(
                type(error).__name__, _reason(error), was_sent=not not_connected
            ) from error
        code = response.headers.get("X-ClickHouse-Exception-Code", "")
        if _CODE.fullmatch(code):
            raise ServerError(int(code), _shorten(answer))
        if response.status_code != 200:
            raise _not_clickhouse(f"HTTP_{response.status_code}", answer)
        if len(answer) >= limit or not any(map(_OF_CLICKHOUSE.match, response.headers)):
            # A load balancer before ClickHouse, or a URL that is not ClickHouse's.
            raise _not_clickhouse("UnexpectedAnswer", answer)
        return answer, response.headers.get("X-ClickHouse-Summary", "")

    async def _read(self, response: httpx.Response, limit: int) -> bytes:
        """Return the body of an answer: all of it, or at least `limit` bytes."""
        found = bytearray()
        try:
            async for part in response.aiter_raw():
                found += part
                if len(found) >= limit:
                    # The next read fails. To leave the loop would leave httpx's generators open.
                    await response.aclose()
        except self._httpx.TransportError:
            if len(found) < limit:
                raise
        return bytes(found)


_OF_CLICKHOUSE: Final = re.compile("x-clickhouse-", re.IGNORECASE)
_NO_ROWS: Final = re.compile(r'"read_rows":"0".*"written_rows":"0"')
_CODE: Final = re.compile("[0-9]{1,9}")


def _basic_credentials(user: str, password: str) -> str:
    """Return the value of a header. The encoding allows every password, also one of other bytes."""
    try:
        pair = f"{user}:{password}".encode(errors="surrogateescape")
    except UnicodeEncodeError:  # which contains the password
        raise ValueError("user or password: a lone surrogate cannot be sent") from None
    return f"Basic {b64encode(pair).decode()}"


def version_numbers(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version of ClickHouse, such as ``(24, 8)``."""
    return tuple(int(part) for part in version.split(".")[:2])


def _not_clickhouse(code: str, answer: bytes) -> NoAnswerError:
    return NoAnswerError(code, _shorten(answer), answered=True)


def _reason(error: BaseException) -> str:
    """Return the text of an error, or of its cause: httpx has none for a refused certificate."""
    cause: BaseException | None = error
    while cause is not None:
        if str(cause):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    return ""


def _shorten(answer: bytes) -> str:
    text = answer[: 4 * _MAX_MESSAGE].decode(errors="replace").strip()
    return text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]}…"
