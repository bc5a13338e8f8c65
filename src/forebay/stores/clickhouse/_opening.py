"""Open a ClickHouse database as a store: check the arguments, open the spool, create tables."""

from __future__ import annotations

import logging
import math
import os
import ssl
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, get_args
from urllib.parse import urlsplit

import trio

from forebay._errors import StoreError, format_count, raise_schema_errors
from forebay._options import RetryPolicy
from forebay._protection import protected_context, raise_together, run_to_end
from forebay._table.table import Table
from forebay.stores.clickhouse._client import Client
from forebay.stores.clickhouse._compression import Compression, choose_compression
from forebay.stores.clickhouse._declared import (
    WINDOW,
    WINDOW_SECONDS,
    CreateOptions,
    create_sql,
    declaration_errors,
)
from forebay.stores.clickhouse._failures import UNKNOWN_DATABASE, NoAnswerError, ServerError
from forebay.stores.clickhouse._inspection import Inspector
from forebay.stores.clickhouse._prepared import PreparedTables
from forebay.stores.clickhouse._relay import RelayOptions
from forebay.stores.clickhouse._schema import check_functions, missing_database
from forebay.stores.clickhouse._spool import Spool, Synchronous
from forebay.stores.clickhouse._spool_opening import open_spool
from forebay.stores.clickhouse._start_limit import StartLimit
from forebay.stores.clickhouse._store import ClickHouseStore

_logger = logging.getLogger(__name__)

PASSWORD_VARIABLE: Final = "FOREBAY_CLICKHOUSE_PASSWORD"  # noqa: S105  # the name of a variable

DEFAULT_RETRY: Final = RetryPolicy(initial_delay=0.2, max_delay=10.0)


@protected_context
async def open_clickhouse(
    url: str,
    *,
    spool: str | os.PathLike[str],
    database: str = "default",
    user: str = "default",
    password: str | None = None,
    password_file: str | os.PathLike[str] | None = None,
    create: Sequence[Table[Any]] = (),
    replicated: bool = False,
    cluster: str | None = None,
    spool_bytes: int = 1 << 32,
    synchronous: Synchronous = "NORMAL",
    compression: Compression | None = None,
    verify: bool | ssl.SSLContext = True,
    connect_timeout: float = 10.0,
    request_timeout: float = 60.0,
    start_timeout: float = 60.0,
    insert_interval: float = 1.0,
    retry: RetryPolicy = DEFAULT_RETRY,
    longest_outage: float = 3600.0,
    delivery_timeout: float = 5.0,
) -> AsyncGenerator[ClickHouseStore, None]:
    """Open a ClickHouse database as a store for buffers, for the time of an `async with` block.

    A batch is committed as soon as it is in the spool, a local SQLite file. One task per table
    sends what is in the spool to the server, in order, and deletes it after the acknowledgement.
    While the server does not answer, the rows wait in the spool. Each block is sent with a token by
    which the server recognises it if it is sent again, so it is in the table exactly once.

    When the block ends, what is in the spool gets `delivery_timeout` seconds more. What is left
    then stays in the spool, which is no error: the next program that opens it sends it. A
    cancellation does not cut this time short; a `KeyboardInterrupt` does.

    Args:
        url: scheme, host and port, such as ``https://ch.example.com:8443``.
        spool: the file of the spool, which is created if it does not exist, with access for its
            owner only. Each running program needs a file of its own. Keep it on a local disk.
        database: the database of the tables.
        user: the user.
        password: the password. None for the one in `password_file`, or in the environment variable
            ``FOREBAY_CLICKHOUSE_PASSWORD``, or an empty one.
        password_file: a file with the password, whose end of line is removed.
        create: the tables to create. A table that exists already is not changed.
        replicated: create tables with a Replicated engine.
        cluster: create tables on all servers of this cluster.
        spool_bytes: how many bytes may wait in the spool. While it is full, flushes wait, and so
            does `enqueue` once the buffer is full. A single batch may exceed it.
        synchronous: when a commit waits for the disk. With ``NORMAL``, a power cut may lose the
            last batches that were committed and not sent; with ``FULL``, none.
        compression: ``"zstd"``, for which `backports.zstd` must be installed before Python 3.14,
            ``"gzip"`` or ``"none"``. None for zstd if it is installed, and otherwise gzip.
        verify: how the certificate of an HTTPS server is verified: True for the authorities that
            httpx knows, an `ssl.SSLContext` for others, False for not at all.
        connect_timeout: how long a connection may take, in seconds.
        request_timeout: how long a request may take, in seconds. A block of up to 16 MiB, before
            compression, must reach the server in this time; after it, it is sent again.
        start_timeout: how long the start may wait for the server in all, to create and to check the
            tables, in seconds. After that, and after the first request without an answer, tables
            that were checked before are used unchecked: see "Scaling out" in the docs.
        insert_interval: how long after the start of an INSERT the next one of the same table may
            start, in seconds. Meanwhile small batches are merged. Each INSERT makes a part, which
            the server must merge with others.
        retry: the waits after a failed request. While the server has too many parts, the waits are
            at least half of its `max_delay`; while it refuses a block, a user or a table, three
            times `max_delay`. `max_attempts` has no effect: a block is never given up.
        longest_outage: how long a block that may have been received must be recognised, in seconds.
            The table's deduplication window must be that long; see "Scaling out" in the docs.
        delivery_timeout: how long the end of the block waits for the delivery, in seconds.

    Yields:
        The store.

    Raises:
        ImportError: the extra `clickhouse` is not installed.
        StoreError: another program uses the spool; it is not a spool, or is for another server or
            database; it cannot be read or written; or the server refuses to create a table.
        SchemaError: ClickHouse cannot keep the contract of a table in `create`, or there is no such
            database; the error has the statement that creates it.
        OSError: the spool cannot be created, or the password file cannot be read.
        TypeError, ValueError: an argument is invalid.
    """
    server = _check_url(url)
    for name, value in (
        ("connect_timeout", connect_timeout),
        ("request_timeout", request_timeout),
        ("start_timeout", start_timeout),
    ):
        if not 0 < value < math.inf:
            raise ValueError(f"{name}={value!r}: expected a finite number of seconds above 0")
    for name, value in (
        ("insert_interval", insert_interval),
        ("longest_outage", longest_outage),
        ("delivery_timeout", delivery_timeout),
    ):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name}={value!r}: expected a finite number of seconds of at least 0")
    if ":" in user:
        raise ValueError(f"user={user!r}: HTTP allows no colon in the name of a user")
    if spool_bytes < 1:
        raise ValueError(f"spool_bytes={spool_bytes!r}: expected at least 1")
    if synchronous not in get_args(Synchronous):
        raise ValueError(f"synchronous={synchronous!r}: expected one of {get_args(Synchronous)}")
    _check_verify(verify, server)
    raise_schema_errors([error for table in create for error in declaration_errors(table)])
    name = os.path.join(os.getcwd(), os.fsdecode(spool))  # noqa: PTH109, PTH118  # no access to the disk
    path = await trio.to_thread.run_sync(os.path.realpath, name)
    secret = await trio.to_thread.run_sync(_find_password, password, password_file)
    options = CreateOptions(
        replicated=replicated,
        cluster=cluster,
        window=max(WINDOW, math.ceil(longest_outage)),
        window_seconds=max(WINDOW_SECONDS, math.ceil(longest_outage)),
    )
    relay_options = RelayOptions(
        request_timeout=request_timeout, insert_interval=insert_interval, retry=retry
    )
    errors: list[BaseException] = []
    store: ClickHouseStore | None = None
    async with (
        Client(
            server, user=user, password=secret, verify=verify, connect_timeout=connect_timeout
        ) as client,
        open_spool(
            path,
            server=server,
            database=database,
            compression=choose_compression(compression),
            synchronous=synchronous,
            limit=spool_bytes,
        ) as opened,
        trio.open_nursery() as nursery,
    ):
        # An error of the body is raised after the nursery, which would put it into a group.
        try:
            limit = StartLimit(start_timeout)
            timeout = request_timeout
            await _create_tables(client, server, database, create, options, timeout, limit)
            tables = PreparedTables(
                url=server,
                database=database,
                spool=opened,
                client=client,
                timeout=request_timeout,
                create_options=options,
                longest_outage=longest_outage,
            )
            store = ClickHouseStore(
                url=server,
                database=database,
                spool=opened,
                client=client,
                nursery=nursery,
                tables=tables,
                relay_options=relay_options,
                start_timeout=start_timeout,
                first_limit=limit,
            )
            store.start_waiting()
            yield store
        except BaseException as error:  # noqa: BLE001  # raised again after the delivery
            errors.append(error)
        if store is not None:
            scope = trio.CancelScope(shield=True)
            deliver = partial(_deliver, store, opened, scope, delivery_timeout)
            errors += await run_to_end(deliver, on_interrupt=scope.cancel)
        nursery.cancel_scope.cancel()
    raise_together(f"the store of {server!r} was closed after an error", errors)


async def _deliver(
    store: ClickHouseStore, spool: Spool, scope: trio.CancelScope, delivery_timeout: float
) -> None:
    """Wait until the spool is empty, for the timeout, or until the scope is cancelled."""
    scope.deadline = trio.current_time() + delivery_timeout
    with scope:
        await store.delivered()
    left = sum(size.entries for size in spool.sizes.values())
    if left:
        _logger.warning(
            "%s left in the spool %r; the next program that opens it sends them to ClickHouse",
            *(format_count(left, "row"), spool.path),
        )


async def _create_tables(
    client: Client,
    server: str,
    database: str,
    tables: Sequence[Table[Any]],
    options: CreateOptions,
    timeout: float,  # noqa: ASYNC109  # of one request
    limit: StartLimit,
) -> None:
    for table in tables:
        try:
            await limit.call(partial(_create_table, client, database, table, options, timeout))
        except NoAnswerError as error:
            # A table that was checked before can be used during an outage; `prepare` decides.
            _logger.warning("%s does not answer, so no table is created: %s", server, error)
            return
        except ServerError as error:
            if error.code == UNKNOWN_DATABASE:
                raise missing_database(database, table, options) from error
            raise StoreError(
                f"{server}: the table {table.name!r} cannot be created: {error}"
            ) from error


async def _create_table(
    client: Client,
    database: str,
    table: Table[Any],
    options: CreateOptions,
    timeout: float,  # noqa: ASYNC109  # of one request
) -> None:
    await check_functions(table, Inspector(client, timeout=timeout))
    await client.execute(create_sql(database, table, options), timeout=timeout)


def _check_url(url: str) -> str:
    """Return scheme, host and port of a URL.

    Raises:
        ValueError: it has other parts, or is not a URL. The message does not contain it, since it
            may contain a password.
    """
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            "url: it contains a user or a password; pass them as the arguments user and "
            "password, or password_file"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("url: expected http://HOST:PORT or https://HOST:PORT")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("url: expected only scheme, host and port; pass the database as database=")
    port = parts.port if parts.port is not None else (8443 if parts.scheme == "https" else 8123)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port}"


def _check_verify(verify: object, server: str) -> None:
    """Check how a certificate is verified.

    Raises:
        TypeError: `verify` is neither a bool nor a context.
        ValueError: it is a context, and there will be no certificate.
    """
    if not isinstance(verify, bool | ssl.SSLContext):
        raise TypeError(
            f"verify={verify!r}: expected True, False or an ssl.SSLContext; for a file with "
            f"authorities, pass ssl.create_default_context(cafile=…)"
        )
    if isinstance(verify, ssl.SSLContext) and not server.startswith("https:"):
        raise ValueError(
            f"verify: an ssl.SSLContext was passed, but {server} is not encrypted and has no "
            f"certificate; pass the https URL of the server"
        )


def _find_password(password: str | None, file: str | os.PathLike[str] | None) -> str:
    if password is not None and file is not None:
        raise ValueError("password and password_file were both passed; pass one of them")
    if password is not None:
        return password
    if file is not None:
        # Other bytes are sent as they are; an error of decoding would contain the password.
        return Path(file).read_bytes().decode(errors="surrogateescape").rstrip("\r\n")
    return os.environ.get(PASSWORD_VARIABLE, "")
