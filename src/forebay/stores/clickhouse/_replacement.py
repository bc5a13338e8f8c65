"""Replace a block that the server refused by blocks that it may accept, or by a dead letter."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from forebay.stores.clickhouse._compression import decompress
from forebay.stores.clickhouse._encoder import BlockEncoder
from forebay.stores.clickhouse._failures import Meaning, ServerError
from forebay.stores.clickhouse._native import Block
from forebay.stores.clickhouse._spool import Spool
from forebay.stores.clickhouse._spool_table import Spooled
from forebay.stores.sqlite import _dead_letter_table as dead_letters

_logger = logging.getLogger(__name__)


class TableNow(NamedTuple):
    """What a table in the server is now.

    Attributes:
        encoder: encodes for the types that its columns have.
        has_views: whether an error can leave a part of a block in a table, because of materialized
            views or shards.
    """

    encoder: BlockEncoder
    has_views: bool


class BlockReplacer:
    """Replaces blocks of one table, none of whose rows can be in the server.

    Args:
        name: the name of the table.
        spool: where the blocks wait.
        look_up: looks the table up in the server, and returns what it is now; None if that failed,
            or if the table does not keep its contract any more.

    Attributes:
        refused: the number of rows that became dead letters.
    """

    def __init__(
        self, name: str, spool: Spool, look_up: Callable[[], Awaitable[TableNow | None]]
    ) -> None:
        self.refused = 0
        self._name = name
        self._spool = spool
        self._look_up = look_up

    async def replace(self, row: Spooled, stored: bytes, error: Exception) -> bool:
        """Replace a block that was refused: by its halves, or by the same rows in other types.

        Args:
            row: its row in the spool.
            stored: its bytes, compressed.
            error: why it was refused.

        Returns:
            Whether it was replaced. If not, the same block must be sent again.

        Raises:
            ValueError: the block is damaged, or a column cannot hold a value any more.
            StoreError: the spool cannot be written.
        """
        meaning = error.meaning if isinstance(error, ServerError) else None
        if meaning not in (Meaning.ROW, Meaning.TYPES):
            return False
        table = await self._look_up()
        if table is None or (meaning is Meaning.ROW and table.has_views):
            return False
        block = Block.from_bytes(decompress(stored, row.compression), row.layout)
        encoder = table.encoder.of_block(block)
        if meaning is Meaning.ROW:
            await self._split(row, block, encoder, error)
            return True
        if encoder.types == table.encoder.types:
            return False  # a view has other types
        await self._spool.replace(row, [table.encoder.encode_again(block, encoder)])
        return True

    async def _split(
        self, row: Spooled, block: Block, encoder: BlockEncoder, error: Exception
    ) -> None:
        """Replace a refused block by its halves, or by a dead letter if it is one row.

        Raises:
            ValueError: the block is damaged.
        """
        code = f"CLICKHOUSE_{error.code}" if isinstance(error, ServerError) else "CLICKHOUSE"
        halves = encoder.split(block) if block.rows > 1 else []
        operations = [] if halves else encoder.decode(block)

        def insert(raw: sqlite3.Connection) -> None:
            for operation in operations:
                dead_letters.insert(
                    raw,
                    encoder.table,
                    operation,
                    code=code,
                    message=str(error),
                    attempts=row.attempts + 1,
                )

        await self._spool.replace(row, halves, insert)
        self.refused += len(operations)
        if operations:
            _logger.error(
                "table %r: ClickHouse refused a row, which is a dead letter in the spool now (%s)",
                self._name,
                code,
            )
