"""Dead letters: the entries that a table refused. Read, count, replay and purge them.

They are rows of the table `forebay_dead_letters`, in the same file as the table that refused them.
The transaction that commits the rest of the batch writes them there.
The command `forebay dead-letters` is for people; this module is for programs.

Example:
    >>> async def retry_foreign_keys(store: SqliteStore) -> None:
    ...     result = await replay(store, error_code="SQLITE_CONSTRAINT_FOREIGNKEY")
    ...     print(f"{len(result.replayed)} replayed, {len(result.refused)} refused again")
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from typing import Any, Unpack

import trio

from forebay._database import Database
from forebay._errors import SpillError
from forebay._options import BufferOptions, RetryPolicy
from forebay._own_files import owners_of
from forebay._protection import protected_context
from forebay._spill.model import Spill
from forebay._spill.reading import read_spill
from forebay.dead_letters import _windows
from forebay.dead_letters._model import Count, DeadLetter, DeadLetterReader, Failure, Selection
from forebay.dead_letters._replay import ReplayResult, replay_windows
from forebay.dead_letters._windows import Windows, let_others_write, query
from forebay.stores.sqlite import SqliteStore, _spill_import
from forebay.stores.sqlite import _dead_letter_table as table
from forebay.stores.sqlite._database_id import read_id
from forebay.stores.sqlite._errors import store_errors
from forebay.stores.sqlite._inspector import open_inspector

_LOCK_TIMEOUT = 5.0
"""Seconds that a reader waits for a program with an exclusive lock on the file."""

_REPLAY_OPTIONS = BufferOptions(dead_letters_per_minute=None, retry=RetryPolicy(max_attempts=25))
"""For a replay, which a person waits for: 25 attempts at a locked file take about 30 s."""


@protected_context
async def open_reader(path: str | os.PathLike[str]) -> AsyncGenerator[DeadLetterReader, None]:
    """Open a file to read its dead letters, for the length of an `async with` block.

    It writes nothing, and leaves no file beside the database. So the file may be a copy, or one of
    another user.

    Args:
        path: the file.

    Yields:
        The reader, for `fetch` and `counts`.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the file cannot be read.
        StoreError: SQLite cannot open the file.
    """
    with store_errors(os.fsdecode(path)):
        async with open_inspector(path, busy_timeout=_LOCK_TIMEOUT) as inspector:
            yield inspector


async def fetch(
    reader: DeadLetterReader,
    *,
    limit: int | None = None,
    newest_first: bool = False,
    **selection: Unpack[Selection],
) -> list[DeadLetter]:
    """Return dead letters, in the order in which they were first refused.

    Cancelled, it ends when the query that runs does; no query visits more than 1,000 letters.

    Args:
        reader: the store, or a connection to the file, which may be read-only.
        limit: the most letters that it returns; at least 0, or None for all.
        newest_first: whether to reverse the order.
        **selection: which letters: see `Selection`.

    Raises:
        ValueError: `limit` is below 0.
        StoreError: the file cannot be read, or the history of a letter cannot be decoded.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit={limit!r}: expected at least 0, or None for all")
    letters: list[DeadLetter] = []
    if limit == 0:
        return letters
    async for window in Windows(reader, selection, newest_first=newest_first):
        left = -1 if limit is None else limit - len(letters)
        sql, parameters = table.select(window, newest_first=newest_first, limit=left)
        letters += map(DeadLetter.from_row, await query(reader, sql, parameters))
        if len(letters) == limit:
            break
    return letters


async def counts(reader: DeadLetterReader, **selection: Unpack[Selection]) -> list[Count]:
    """Count dead letters by buffer and error.

    They are counted 1,000 at a time. So of the letters that another program adds or removes
    meanwhile, some may be counted and others not. Cancelled, it ends when the query that runs does.

    Args:
        reader: the store, or a connection to the file, which may be read-only.
        **selection: which letters: see `Selection`.

    Returns:
        The counts, sorted by buffer and error code.

    Raises:
        StoreError: the file cannot be read.
    """
    found: dict[tuple[str, str], Count] = {}
    async for window in Windows(reader, selection):
        for row in await query(reader, *table.count(window)):
            count = Count(*row)
            kind = (count.buffer, count.error_code)
            found[kind] = _add(found[kind], count) if kind in found else count
    return [found[kind] for kind in sorted(found)]


def _add(one: Count, other: Count) -> Count:
    return Count(
        one.buffer,
        one.error_code,
        one.count + other.count,
        min(one.oldest, other.oldest),
        max(one.newest, other.newest),
    )


async def replay(
    store: SqliteStore, *, options: BufferOptions | None = None, **selection: Unpack[Selection]
) -> ReplayResult:
    """Run the entries of dead letters again, once the cause of their refusal is fixed.

    The entries go through a buffer, as if they were enqueued now: in the order in which they were
    first refused, 200 at a time, and of these one table after another. The transaction that
    commits an entry removes its letter. So a replay that is interrupted loses nothing and does
    nothing twice: start it again. An entry that is refused again keeps its letter, with the new
    failure, more attempts, and the previous failure in its history.

    Beware: the entries run now. An entry may overwrite a row of the same key that is newer than
    its first refusal. Purge such letters instead.

    Each transaction is short, and between two of them other programs can write to the file.

    Cancelled, it commits the entries that the buffer has accepted, at most 200; then it ends.

    Args:
        store: the store.
        options: for the buffers; None for the defaults, but without a limit of dead letters, and
            with an end to the retries when the file stays locked or the disk full for about 30 s.
        **selection: which letters: see `Selection`.

    Returns:
        The ids of the letters that were replayed, refused and skipped.

    Raises:
        FlushError: the file cannot be written, or stayed locked, or another process replays or
            purges the same letters. Letters that were not replayed are still there.
        DrainError: the replay was cancelled, and the file stayed locked. Letters that were not
            replayed are still there.
        StoreError: the file cannot be read, or the history of a letter cannot be decoded.
    """
    windows = Windows(store, selection, size=_windows.REPLAY_SIZE)
    return await replay_windows(store, windows, options or _REPLAY_OPTIONS)


async def import_spill(
    store: SqliteStore,
    path: str | os.PathLike[str],
    *,
    any_database: bool = False,
    incomplete: bool = False,
) -> range:
    """Make dead letters of the entries in a spill file, so that they can be replayed.

    Each spill is imported once: to import it again, after a crash or from a copy, adds nothing.
    The file stays as it is; remove it afterwards.

    Cancelled before its transaction has begun, it imports nothing; later, it imports all.

    Args:
        store: the store.
        path: the file that `open_buffers` wrote, at the path of its argument `spill`. It must
            belong to this user, to the owner of the database, or to the superuser, and must not be
            a symbolic link.
        any_database: whether to import the spill of another database. A spill that does not name
            its database is always imported.
        incomplete: whether to import the complete lines of an incomplete file, such as a `.part`
            file of a program that was killed while it wrote. They too are imported once.

    Returns:
        The ids of the letters. If the spill was imported before, some of the letters may have been
        replayed or purged since.

    Raises:
        SpillError: the file is not a spill, is damaged, has a newer format, belongs to another
            database or another user, is a symbolic link, or has more entries than were imported
            from it before. Nothing was imported.
        OSError: the file cannot be read.
        StoreError: the database cannot be written; nothing was imported.
    """
    # It only reads, so that a cancellation may abandon it.
    spill, letters = await trio.to_thread.run_sync(
        _read_spill, path, incomplete, store.path, abandon_on_cancel=True
    )
    with store_errors(store.path):
        here = Database.at(store.path, await store.run(read_id))
        if spill.database is not None and spill.database.differs_from(here) and not any_database:
            raise SpillError(
                f"the spill {os.fspath(path)!r} belongs to the database {spill.database}, and this "
                f"is {here}. To import its entries here all the same, use any_database=True, "
                f"--any-database"
            )
        return await store.run(_spill_import.import_letters, spill, letters)


def _read_spill(
    path: str | os.PathLike[str], incomplete: bool, database: str
) -> tuple[Spill, list[tuple[Any, ...]]]:
    # Whoever owns the database may change it without a spill, too.
    spill = read_spill(path, incomplete=incomplete, owners=owners_of(database))
    return spill, _spill_import.letters_of(spill)


async def purge(
    store: SqliteStore, *, all_letters: bool = False, **selection: Unpack[Selection]
) -> int:
    """Remove dead letters for good.

    Each transaction removes at most 1,000 letters, and between two of them other programs can
    write to the file. Cancelled, or ended by an error, it may have removed some of the letters.

    Args:
        store: the store.
        all_letters: whether to remove all letters, if no condition is given.
        **selection: which letters: see `Selection`.

    Returns:
        How many letters were removed.

    Raises:
        ValueError: neither a condition nor `all_letters` is given, or both are.
        StoreError: the file cannot be written.
    """
    if all_letters != all(value is None for value in selection.values()):
        raise ValueError(
            "purge needs either a condition (buffer, error_code, failed_before, ids) or "
            "all_letters=True"
        )
    removed = 0
    windows = Windows(store, selection)
    async for window in windows:
        # The search is a read, so that it takes no lock.
        ids = [letter for (letter,) in await query(store, *table.select_ids(window))]
        if not ids:
            continue
        begun = trio.current_time()
        with store_errors(store.path):
            removed += await store.run(table.delete, table.id_in(ids) & windows.fields)
        await let_others_write(trio.current_time() - begun)
    return removed


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
