"""Dead letters: the entries that a table refused, to look at, to replay, to throw away.

They are rows of the table `forebay_dead_letters`, in the same file as the table that refused
them. What is done with them by hand is done by `forebay dead-letters`; this module is for
programs.

Example:
    >>> async def retry_foreign_keys(store: SqliteStore) -> None:
    ...     result = await replay(store, error_code="SQLITE_CONSTRAINT_FOREIGNKEY")
    ...     print(f"{len(result.replayed)} replayed, {len(result.refused)} refused again")
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Unpack

import trio

from forebay._database import Database
from forebay._errors import SchemaError, SpillError
from forebay._options import BufferOptions, RetryPolicy
from forebay._spill import read_spill
from forebay._table.json_format import decode_declaration, decode_operation
from forebay._table.operations import Operation
from forebay._table.table import Table
from forebay.dead_letters._model import Count, DeadLetter, DeadLetterReader, Failure, Selection
from forebay.dead_letters._replay import ReplayResult, replay_operations
from forebay.sqlite import connect
from forebay.stores.sqlite import SqliteStore
from forebay.stores.sqlite import _dead_letter_table as sql
from forebay.stores.sqlite._database_id import read_id
from forebay.stores.sqlite._errors import store_errors

_LOCK_TIMEOUT = 5.0
"""Seconds that a reader waits for a program that has the file for itself."""

_OPTIONS = BufferOptions(dead_letters_per_minute=None, retry=RetryPolicy(max_attempts=25))
"""For a replay, which a person waits for: a lock that stays ends it in about half a minute."""

_PAGE = 5_000
"""Letters that a replay holds in memory at a time."""


@asynccontextmanager
async def open_reader(path: str | os.PathLike[str]) -> AsyncGenerator[DeadLetterReader, None]:
    """Open a file to read its dead letters, for the time of an `async with` block.

    It writes nothing, so it will do for a copy, or with no right to write.

    Args:
        path: the file.

    Yields:
        What `fetch` and `counts` read from.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be a file to read.
        StoreError: SQLite cannot open it.
    """
    with store_errors(os.fsdecode(path)):
        async with connect(path, readonly=True, busy_timeout=_LOCK_TIMEOUT) as connection:
            yield connection


async def fetch(
    reader: DeadLetterReader,
    *,
    limit: int | None = None,
    newest_first: bool = False,
    **selection: Unpack[Selection],
) -> list[DeadLetter]:
    """Read dead letters. Cancelled, it ends when the query does.

    Args:
        reader: the store, or a connection to its file, which may be read-only.
        limit: no more than so many; at least 0, or None for all.
        newest_first: whether the last ones come first.
        **selection: which letters: see `Selection`.

    Returns:
        The letters, in the order in which they were refused first, or the reverse of it.

    Raises:
        ValueError: `limit` is below 0.
        StoreError: the file cannot be read, or the history of a letter is not as it was written.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit={limit!r}: expected at least 0, or None for all")
    return await _fetch(
        reader,
        sql.NEWEST if newest_first else sql.OLDEST,
        {**sql.selection(**selection), "limit": -1 if limit is None else limit, "after": 0},
    )


async def counts(reader: DeadLetterReader, **selection: Unpack[Selection]) -> list[Count]:
    """Count dead letters by buffer and error. Cancelled, it ends when the query does.

    Args:
        reader: the store, or a connection to its file, which may be read-only.
        **selection: which letters: see `Selection`.

    Raises:
        StoreError: the file cannot be read.
    """
    return [Count(*row) for row in await _query(reader, sql.COUNT, sql.selection(**selection))]


async def replay(
    store: SqliteStore, *, options: BufferOptions | None = None, **selection: Unpack[Selection]
) -> ReplayResult:
    """Do the operations of dead letters again, now that their cause is mended.

    They run through a buffer, as if they were enqueued now, in the order in which they were
    refused first, one table after another. The transaction that commits an operation removes its
    letter, so a replay that is cut short, by whatever, lost nothing and did nothing twice: replay
    again. An operation that is refused once more stays the letter it was, with the new failure,
    more attempts, and the failure before in its history.

    Beware: it is now that they run. Where a newer row has come in for the same key, it counts as
    the earlier one of the two. Purge the letters for which that is wrong.

    Cancelled, it commits what the buffer had accepted, then ends.

    Args:
        store: the store.
        options: for the buffers; None for the defaults without a limit of dead letters, and with
            an end to the attempts at a database that is locked or full, after about half a minute.
        **selection: which letters: see `Selection`.

    Returns:
        What became of them.

    Raises:
        FlushError: the database cannot be written, or stayed locked, or another process replays or
            purges the same letters. What was not replayed is a dead letter still.
        DrainError: it was cancelled, and the database stayed locked. Likewise.
        StoreError: the file cannot be read, or the history of a letter is not as it was written.
    """
    parameters = {**sql.selection(**selection), "limit": _PAGE, "after": 0}
    options = options or _OPTIONS
    replayed: list[int] = []
    refused: list[int] = []
    skipped: dict[int, str] = {}
    full = True
    while full:
        page = await _fetch(store, sql.OLDEST, parameters)
        full = len(page) == _PAGE  # letters that come in meanwhile do not keep this going
        parameters["after"] = page[-1].id if page else 0
        for table, operations in _by_table(page, skipped).items():
            try:
                result = await replay_operations(store, table, operations, options)
            except SchemaError as error:
                skipped.update(dict.fromkeys(operations, str(error)))
                continue
            replayed += result.replayed
            refused += result.refused
            skipped.update(result.skipped)
    return ReplayResult(tuple(replayed), tuple(refused), skipped)


async def import_spill(
    store: SqliteStore,
    path: str | os.PathLike[str],
    *,
    any_database: bool = False,
    incomplete: bool = False,
) -> range:
    """Make dead letters of the entries in a spill file, to be replayed like others.

    Each spill is taken in once: doing it again, after a crash or from a copy, adds nothing. The
    file is left as it is, for a person to remove.

    Cancelled before its transaction has begun, nothing is taken in; later, all is.

    Args:
        store: the store.
        path: the file that `open_buffers` wrote, whose `spill` names it.
        any_database: whether a spill of another database is taken in, too. A spill that does not
            say which one it is of always is.
        incomplete: whether a spill that was cut off is taken in as well, such as a `.part` that
            a program left which was killed over it: its whole lines, once too.

    Returns:
        The ids of the letters. Where the spill was taken in before, some of them may have been
        replayed or purged since.

    Raises:
        SpillError: it is no spill file, or is damaged, or is of another database, or more of it
            is in this file than was taken in before; nothing was taken in.
        OSError: it cannot be read.
        StoreError: the file cannot be written; nothing was taken in.
    """
    spill = await trio.to_thread.run_sync(partial(read_spill, path, incomplete=incomplete))
    with store_errors(store.path):
        here = Database.at(store.path, await store.run(read_id))
        if spill.database is not None and spill.database.is_other(here) and not any_database:
            raise SpillError(
                f"{os.fspath(path)!r} is of the database {spill.database}, and this is {here}: its "
                f"rows do not belong here. If they do, say so (any_database=True, --any-database)"
            )
        return await store.run(sql.import_spill, spill)


async def purge(store: SqliteStore, **selection: Unpack[Selection]) -> int:
    """Remove dead letters for good, in one transaction.

    Cancelled before the transaction has begun, none is removed; later, all are.

    Args:
        store: the store.
        **selection: which letters: see `Selection`.

    Returns:
        How many were removed.

    Raises:
        ValueError: no condition is given: all is too easily meant for none.
        StoreError: the file cannot be written; none was removed.
    """
    parameters = sql.selection(**selection)
    if all(value is None for value in parameters.values()):
        raise ValueError("purge needs one of buffer, error_code, failed_before and ids")
    with store_errors(store.path):
        return await store.run(sql.purge, parameters)


async def _query(
    reader: DeadLetterReader, text: str, parameters: Mapping[str, Any]
) -> list[tuple[Any, ...]]:
    with store_errors(reader.path):
        if not await reader.fetch_all(sql.EXISTS):  # the file never had a dead letter
            return []
        return await reader.fetch_all(text, parameters)


async def _fetch(
    reader: DeadLetterReader, text: str, parameters: Mapping[str, Any]
) -> list[DeadLetter]:
    return [DeadLetter.from_row(row) for row in await _query(reader, text, parameters)]


def _by_table(
    letters: Sequence[DeadLetter], skipped: dict[int, str]
) -> dict[Table[tuple[Any, ...]], dict[int, Operation]]:
    """Give the operations by their tables; two declarations of one name are two tables."""
    tables: dict[str, Table[tuple[Any, ...]]] = {}
    groups: dict[Table[tuple[Any, ...]], dict[int, Operation]] = {}
    for letter in letters:
        try:
            if letter.declaration not in tables:
                tables[letter.declaration] = decode_declaration(letter.declaration)
            table = tables[letter.declaration]
            operation = decode_operation(table, letter.entry)
        except ValueError as error:
            skipped[letter.id] = f"it cannot be read: {error}"
        else:
            groups.setdefault(table, {})[letter.id] = operation
    return groups


__all__ = [
    "Count",
    "DeadLetter",
    "DeadLetterReader",
    "Failure",
    "ReplayResult",
    "Selection",
    "counts",
    "fetch",
    "import_spill",
    "open_reader",
    "purge",
    "replay",
]
