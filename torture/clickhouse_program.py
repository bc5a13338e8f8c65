"""The program that `torture.clickhouse` runs, kills and starts again.

It writes numbers to three tables in ClickHouse, in rounds. After each round of a table it writes to
its output the last number that it was told is committed.
"""

from __future__ import annotations

import os
import sys
from typing import Any, NamedTuple

import trio

from forebay import BufferOptions, Max, RetryPolicy, Sum, Table, open_buffers
from forebay.stores.clickhouse import open_clickhouse
from forebay.stores.clickhouse._client import Client
from forebay.stores.clickhouse._spool_table import new_token

ROUND = 50
KEYS = 20


class Appended(NamedTuple):
    run: int
    number: int
    text: str


class Summed(NamedTuple):
    run: int
    key: int
    total: int
    last: int


class Replaced(NamedTuple):
    run: int
    key: int
    number: int


appended = Table(Appended, name="appended")
summed = Table(Summed, name="summed", key=("run", "key"), merge={"total": Sum, "last": Max})
replaced = Table(Replaced, name="replaced", key=("run", "key"))
TABLES: tuple[Table[Any], ...] = (appended, summed, replaced)


def is_delete(number: int) -> bool:
    """Return whether a number deletes its key in the table `replaced`."""
    return number % 7 == 0


async def write(buffer: Any, run: int, acknowledge: int) -> None:
    """Write numbers to one table until the program is killed."""
    number = 0
    while True:
        for n in range(number, number + ROUND):
            if buffer.name == "appended":
                await buffer.enqueue(Appended(run, n, f"{run}:{n}"))
            elif buffer.name == "summed":
                await buffer.enqueue(Summed(run, n % KEYS, n, n))
            elif is_delete(n):
                await buffer.enqueue_delete((run, n % KEYS))
            else:
                await buffer.enqueue(Replaced(run, n % KEYS, n))
        await buffer.flush()
        number += ROUND
        os.write(acknowledge, f"{run} {buffer.name} {number - 1}\n".encode())


def send_new_tokens() -> None:
    """Send each block with a new token each time, so that the server cannot recognise it.

    To send no token is not enough: the server then recognises a block by the hash of its rows.
    """
    insert = Client.insert

    async def insert_with_new_token(*args: Any, **kwargs: Any) -> None:
        await insert(*args, **{**kwargs, "token": new_token()})

    setattr(Client, "insert", insert_with_new_token)  # noqa: B010  # mypy refuses the assignment


async def main() -> None:
    url, database, spool, run, mode = sys.argv[1:]
    if mode == "write-with-new-tokens":
        send_new_tokens()
    async with (
        open_clickhouse(
            url,
            database=database,
            spool=spool,
            insert_interval=0.1,
            request_timeout=3.0,
            delivery_timeout=60.0,
            retry=RetryPolicy(initial_delay=0.02, max_delay=0.2),
        ) as store,
        trio.open_nursery() as nursery,
    ):
        if mode == "deliver":
            await store.delivered()
            return
        options = BufferOptions(flush_interval=0.01)
        async with open_buffers(store, *TABLES, options=options) as buffers:
            for table in TABLES:
                nursery.start_soon(write, buffers[table], int(run), sys.stdout.fileno())
            await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main)
