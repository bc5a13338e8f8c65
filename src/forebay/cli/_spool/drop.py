"""The command `forebay spool drop`."""

from __future__ import annotations

import json
import sqlite3
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

import click

from forebay._errors import format_count
from forebay._own_files import create_file, opened_folder, sync_file, sync_folder
from forebay.cli._failures import Failed, json_option
from forebay.cli._output import echo, print_json
from forebay.cli._spool.files import (
    DamagedBlockError,
    owned,
    read_rows,
    select_blocks,
    spool_argument,
)
from forebay.sqlite import transact
from forebay.stores.clickhouse import _spool_table as rows
from forebay.stores.clickhouse._spool_table import Spooled


@click.command(name="drop", short_help="Remove blocks for good; their rows go to a file.")
@spool_argument
@click.argument("ids", metavar="[ID]...", nargs=-1, type=int)
@click.option("--table", metavar="TABLE", help="Only blocks of this table.")
@click.option("--all", "all_blocks", is_flag=True, help="All blocks.")
@click.option(
    "--to",
    "target",
    metavar="FILE",
    required=True,
    type=click.Path(),
    help="A new file for the rows, one JSON object per line. It is readable by its owner only.",
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
def drop_command(
    spool: str,
    ids: tuple[int, ...],
    table: str | None,
    all_blocks: bool,
    target: str,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove blocks from SPOOL, so that they are never delivered. Their rows go to a file.

    Give IDs, --table or --all. No program may be using the spool. A block that was sent and got no
    answer may be in ClickHouse already.

    \b
    Exit codes:
      0    the blocks are removed, or there were none
      1    not confirmed: no block is removed
      2    wrong usage, a program uses the spool, or a file cannot be written
      130  interrupted by SIGINT: no block is removed
    """  # noqa: D301  # \\b is an escape of click's
    if not ids and table is None and not all_blocks:
        raise click.UsageError("which blocks? Give IDs, --table or --all")
    if all_blocks and (ids or table is not None):
        raise click.UsageError("--all drops all blocks; do not give IDs or --table with it")
    with owned(spool) as raw:
        blocks = select_blocks(raw, ids, table)
        count = sum(block.entries for block in blocks)
        what = f"{format_count(len(blocks), 'block')} of {format_count(count, 'row')}"
        if blocks and not yes:
            click.confirm(f"Remove {what} for good?", abort=True, err=True)
        if blocks:
            _write(Path(target), raw, blocks)
            transact(raw, rows.delete, [block.sequence for block in blocks])
    if as_json:
        print_json({"blocks": len(blocks), "rows": count, "file": target if blocks else None})
    elif blocks:
        echo(f"{what} removed; the rows are in {target!r}.")
    else:
        echo("There are no such blocks.")


def _write(target: Path, raw: sqlite3.Connection, blocks: Sequence[Spooled]) -> None:
    """Write the rows of blocks to a new file, and wait until the disk has them.

    Raises:
        Failed: the file exists, or its file system cannot sync it.
        OSError: it cannot be written.
    """
    with opened_folder(target.parent) as folder:
        try:
            descriptor = create_file(target.name, folder=folder)
        except FileExistsError:
            raise Failed(f"{str(target)!r} exists; pass the name of a new file") from None
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  # a descriptor
            for block in blocks:
                file.writelines(f"{line}\n" for line in _lines(raw, block))
            file.flush()
            doubt = sync_file(file.fileno()) or sync_folder(folder)
    if doubt is not None:
        raise Failed(f"{str(target)!r}: {doubt}")


def _lines(raw: sqlite3.Connection, block: Spooled) -> list[str]:
    """Return the rows of a block as JSON; of one that cannot be read, its bytes."""
    start = f'{{"table": {json.dumps(block.buffer)}, '
    try:
        return [f"{start}{operation[1:]}" for operation in read_rows(raw, block)]
    except DamagedBlockError as error:
        fields = {
            "error": str(error),
            "statement": block.statement,
            "compression": block.compression,
            "layout": block.layout,
            "block": b64encode(rows.read_damaged_block(raw, block.sequence)).decode(),
        }
        return [f"{start}{json.dumps(fields)[1:]}"]
