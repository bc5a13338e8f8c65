"""The spool: blocks in a local SQLite file that wait until ClickHouse has acknowledged them."""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, TypeAlias, TypeVar, TypeVarTuple

from forebay import sqlite
from forebay._errors import StoreError
from forebay.stores.clickhouse import _spool_table as rows
from forebay.stores.clickhouse._compression import compress, decompress
from forebay.stores.clickhouse._native import MAX_ROWS, Block, merge_blocks
from forebay.stores.clickhouse._spool_table import KnownTable, Spooled, SpoolSize
from forebay.stores.sqlite._errors import SQLITE_ERRORS, store_errors
from forebay.stores.sqlite._files import DatabaseFiles
from forebay.stores.sqlite._waiting import retry_while_locked

Synchronous: TypeAlias = Literal["NORMAL", "FULL"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

MERGED_BYTES: Final = 16 << 20
"""Blocks are merged until they have this size, without compression."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A block that is being sent.

    Attributes:
        row: its row in the spool.
        block: its bytes, compressed.
        was_sent: whether it may have reached the server in an earlier run of a program.
    """

    row: Spooled
    block: bytes
    was_sent: bool


class Spool:
    """The spool of one program, which owns the file while it is open.

    Args:
        path: the path of the file.
        connection: its connection.
        files: the files of the database.
        compression: the compression of new blocks.
        synchronous: when a commit waits for the disk.
        limit: how many bytes may wait.
        sizes: how much waits, by buffer.
    """

    def __init__(
        self,
        path: str,
        connection: sqlite.Connection,
        files: DatabaseFiles,
        *,
        compression: str,
        synchronous: Synchronous,
        limit: int,
        sizes: Mapping[str, SpoolSize],
    ) -> None:
        self.path = path
        self.connection = connection
        self.compression = compression
        self.limit = limit
        self.files = files
        self._synchronous = synchronous
        self._sizes = sizes

    async def run(self, fn: Callable[[sqlite3.Connection, *Ts], T], *args: *Ts) -> T:
        """Call a function in a transaction, in the connection's thread.

        Raises:
            StoreError: the file cannot be read or written.
        """
        return await self._call(lambda raw: sqlite.transact(raw, fn, *args))

    async def _call(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        def call(raw: sqlite3.Connection) -> T:
            with self.files.checked():
                return fn(raw)

        with store_errors(self.path):
            return await retry_while_locked(lambda: self.connection.run(call))

    # How much waits

    @property
    def sizes(self) -> Mapping[str, SpoolSize]:
        """How much waits, by buffer, after the last transaction."""
        return self._sizes

    @property
    def bytes(self) -> int:
        """How many bytes wait."""
        return sum(size.bytes for size in self._sizes.values())

    @contextmanager
    def counted(self, raw: sqlite3.Connection, buffer: str) -> Generator[None, None, None]:
        """Read how much of a buffer waits after a block, in the connection's thread."""
        try:
            yield
        finally:
            with suppress(*SQLITE_ERRORS):  # then the next transaction reads it
                # A new mapping, since another thread may be iterating over the old one.
                self._sizes = {**self._sizes, buffer: rows.size_of(raw, buffer)}

    async def _change(
        self, buffer: str, fn: Callable[[sqlite3.Connection, *Ts], T], *args: *Ts
    ) -> T:
        """Call a function as `run` does, which changes what of a buffer waits."""

        def call(raw: sqlite3.Connection) -> T:
            with self.counted(raw, buffer):
                return sqlite.transact(raw, fn, *args)

        return await self._call(call)

    # Tables

    async def load_table(self, buffer: str) -> KnownTable | None:
        """Return what the spool knows about a table, or None."""
        return await self.run(rows.load_table, buffer)

    async def save_table(
        self, buffer: str, *, declaration: str, types: str, has_views: bool
    ) -> KnownTable:
        """Save what was found out about a table, and return it with its version."""
        save = partial(rows.save_table, declaration=declaration, types=types, has_views=has_views)
        return await self.run(save, buffer)

    # Blocks

    def insert(self, raw: sqlite3.Connection, buffer: str, statement: str, block: Block) -> None:
        """Add a block in an open transaction."""
        rows.insert(
            raw,
            {
                "buffer": buffer,
                "statement": statement,
                "spooled_at": time.time(),
                "is_part": 0,
                **self._columns_of(block),
            },
        )

    def _columns_of(self, block: Block) -> dict[str, Any]:
        """Return the columns of the spool that depend on a block, with a new token."""
        body = block.to_bytes()
        stored = compress(body, self.compression)
        return {
            "token": rows.new_token(),
            "compression": self.compression,
            "block": stored,
            "checksum": zlib.crc32(stored),
            "layout": block.layout(),
            "bytes": len(body),
            "entries": block.rows,
        }

    async def last_place(self, buffer: str) -> int | None:
        """Return the last place of the newest block of a buffer and its parts, or None."""
        return await self.run(rows.last_place, buffer)

    async def first_place(self, buffer: str) -> int | None:
        """Return the place of the oldest block of a buffer, or None."""
        return await self.run(rows.first_place, buffer)

    async def take(self, buffer: str) -> Outgoing | None:
        """Return the oldest block of a buffer, which may be sent after this.

        Blocks that were never sent are merged into one. Before this returns, the disk has the
        block and its token: after a power cut, the same bytes are sent with the same token.

        Raises:
            StoreError: the spool cannot be used, or the block is damaged.
        """

        def take(raw: sqlite3.Connection) -> Outgoing | None:
            raw.execute("PRAGMA synchronous = FULL")
            try:
                with self.counted(raw, buffer):
                    return sqlite.transact(raw, self._take, buffer)
            finally:
                raw.execute(f"PRAGMA synchronous = {self._synchronous}")

        return await self._call(take)

    def _take(self, raw: sqlite3.Connection, buffer: str) -> Outgoing | None:
        oldest = rows.select(raw, buffer=buffer, limit=1)
        if not oldest:
            return None
        [row] = oldest
        was_sent = row.sent
        if not was_sent:
            if not row.is_part:
                self._merge(raw, row)
            rows.update(raw, row.sequence, {"sent": 1})
            row = rows.select(raw, buffer=buffer, limit=1)[0]
        try:
            return Outgoing(row, rows.read_block(raw, row.sequence), was_sent)
        except ValueError as error:
            raise StoreError(
                f"{error}; `forebay spool drop {self.path} {row.sequence} --to FILE` removes it "
                f"and saves them"
            ) from error

    def _merge(self, raw: sqlite3.Connection, first: Spooled) -> None:
        """Merge the blocks after the first one into it, as far as it has room for them."""
        chosen, entries, size = [first], first.entries, first.bytes
        candidates = rows.select(raw, buffer=first.buffer, limit=1_000)
        for row in candidates[1:]:
            entries, size = entries + row.entries, size + row.bytes
            other = row.sent or row.is_part or row.statement != first.statement
            if other or entries > MAX_ROWS or size > MERGED_BYTES:
                break
            chosen.append(row)
        if len(chosen) == 1:
            return
        blocks: list[Block] = []
        for row in chosen:
            try:
                body = decompress(rows.read_block(raw, row.sequence), row.compression)
                block = Block.from_bytes(body, row.layout)
            except ValueError:
                break  # the server may still be able to read it as it is
            if blocks and block.header != blocks[0].header:
                break  # a column has another type since
            blocks.append(block)
        if len(blocks) <= 1:
            return
        rows.update(raw, first.sequence, self._columns_of(merge_blocks(blocks)))
        rows.delete(raw, [row.sequence for row in chosen[1 : len(blocks)]])

    async def delivered(self, row: Spooled) -> None:
        """Delete a block that the server has acknowledged."""
        await self._change(row.buffer, rows.delete, [row.sequence])

    async def note_failure(
        self, row: Spooled, *, attempts: int, code: str, message: str, in_doubt: bool
    ) -> None:
        """Save why the last attempt to send a block failed."""
        values = {
            "attempts": attempts,
            "error_code": code,
            "error": message,
            "in_doubt": int(in_doubt),
        }
        await self.run(rows.update, row.sequence, values)

    async def replace(
        self,
        row: Spooled,
        parts: Sequence[Block],
        in_transaction: Callable[[sqlite3.Connection], None] = lambda _raw: None,
    ) -> None:
        """Replace a block that the server refused by its parts, in one transaction.

        Args:
            row: the block.
            parts: the blocks that take its place, in order; none if it becomes a dead letter.
            in_transaction: called in the transaction.
        """

        def split(raw: sqlite3.Connection) -> None:
            rows.delete(raw, [row.sequence])
            place = row.place
            for part in parts:
                values = {
                    "buffer": row.buffer,
                    "statement": row.statement,
                    "spooled_at": row.spooled_at,
                    "is_part": 1,  # merged again, it would be refused again
                    **self._columns_of(part),
                }
                rows.insert(raw, values, place=place)
                place += part.rows
            in_transaction(raw)

        await self._change(row.buffer, split)
