"""The group `forebay spool`, and its commands `list` and `show`."""

from __future__ import annotations

import sqlite3
from typing import Any

import click

from forebay.cli._failures import Failed, json_option
from forebay.cli._output import echo, print_columns, print_json, print_wrapped, utc
from forebay.cli._spool.drop import drop_command
from forebay.cli._spool.files import Contents, inspect, read_contents, read_rows, spool_argument
from forebay.cli._spool.retry import retry_command
from forebay.stores.clickhouse import _spool_table as rows
from forebay.stores.clickhouse._spool_table import Spooled

_INDENT = 14
_SHOWN = 20


@click.group(name="spool")
def spool_group() -> None:
    """List, show, retry and drop what waits for ClickHouse.

    A spool is the file in which a program keeps rows until ClickHouse has acknowledged them. They
    wait in blocks; each block is one INSERT.
    """


def state_of(block: Spooled) -> str:
    """Return what happened to a block."""
    if block.error_code is not None:
        return block.error_code
    return "was sent, no answer" if block.sent else "not sent yet"


@spool_group.command(name="list", short_help="Show what waits, why, and since when.")
@spool_argument
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(min=0),
    default=_SHOWN,
    show_default=True,
    help="How many blocks are listed, the oldest first. All of them are counted.",
)
@json_option
def list_command(spool: str, limit: int, as_json: bool) -> None:
    """Show how much waits in SPOOL by table, why, and since when.

    The spool is only read; a program may be using it.

    \b
    Exit codes:
      0    the blocks are listed, or there are none
      2    wrong usage, or the spool cannot be read
      130  interrupted by SIGINT
    """  # noqa: D301  # \\b is an escape of click's
    contents = inspect(spool, read_contents, limit)
    if as_json:
        print_json(_list_as_json(contents))
        return
    if not contents.sizes:
        echo(f"Nothing waits for database {contents.database!r} of {contents.server}.")
        return
    echo(f"For database {contents.database!r} of {contents.server}:\n")
    print_columns(
        ("table", "blocks", "rows", "bytes", "oldest"),
        [
            (table, size.blocks, size.entries, size.bytes, utc(size.oldest or 0.0))
            for table, size in sorted(contents.sizes.items())
        ],
    )
    if contents.blocks:
        echo()
        print_columns(
            ("id", "spooled at", "table", "rows", "tries", "state"),
            [
                (
                    str(block.sequence),
                    utc(block.spooled_at),
                    block.buffer,
                    block.entries,
                    block.attempts,
                    state_of(block),
                )
                for block in contents.blocks
            ],
        )
    more = sum(size.blocks for size in contents.sizes.values()) - len(contents.blocks)
    if more > 0:
        echo(f"\n{more:,} more are not listed: see --limit.")


def _list_as_json(contents: Contents) -> dict[str, Any]:
    return {
        "server": contents.server,
        "database": contents.database,
        "tables": {table: size._asdict() for table, size in sorted(contents.sizes.items())},
        "blocks": [_block_as_json(block) for block in contents.blocks],
    }


def _block_as_json(block: Spooled) -> dict[str, Any]:
    fields = block._asdict()
    return {
        "id": fields.pop("sequence"),
        **{name: fields[name] for name in fields if name not in ("layout", "place")},
    }


@spool_group.command(name="show", short_help="Show all of one block.")
@spool_argument
@click.argument("block_id", metavar="ID", type=int)
@click.option(
    "--rows",
    "shown",
    metavar="N",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="How many of its rows are shown.",
)
@json_option
def show_command(spool: str, block_id: int, shown: int, as_json: bool) -> None:
    """Show all of one block of SPOOL: its statement, its last error, and its first rows.

    The spool is only read; a program may be using it.

    \b
    Exit codes:
      0    the block is shown
      2    wrong usage, there is no such block, or the spool cannot be read
      130  interrupted by SIGINT
    """  # noqa: D301  # \\b is an escape of click's

    def read(raw: sqlite3.Connection) -> tuple[Spooled, list[str]] | None:
        found = [block for block in rows.select(raw) if block.sequence == block_id]
        return (found[0], read_rows(raw, found[0])[:shown]) if found else None

    found = inspect(spool, read)
    if found is None:
        raise Failed(f"there is no block {block_id}; `forebay spool list` shows those that wait")
    block, operations = found
    if as_json:
        print_json({**_block_as_json(block), "rows": operations})
        return
    for label, text in (
        ("id", str(block.sequence)),
        ("table", block.buffer),
        ("statement", block.statement),
        ("rows", f"{block.entries:,}"),
        ("bytes", f"{block.bytes:,}, {block.stored_bytes:,} of {block.compression}"),
        ("spooled at", utc(block.spooled_at)),
        ("state", state_of(block)),
        ("in doubt", "yes, it may be in the table" if block.in_doubt else "no"),
        ("tries", str(block.attempts)),
        ("error", block.error or "none"),
    ):
        print_wrapped(label, text, indent=_INDENT)
    for operation in operations:
        echo(operation)


spool_group.add_command(retry_command)
spool_group.add_command(drop_command)
