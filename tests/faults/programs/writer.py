"""Write in rounds to three kinds of tables, and print what was acknowledged.

Arguments: the database, the first round, the number of rounds, `synchronous`, the number of pages
in the WAL after which SQLite makes a checkpoint, ``pause`` to print ``open`` and wait for a line
once the buffers are open, `on_failure`, and `max_attempts`.

Each round enqueues a group of 7 entries, 3 events and 1 more in the total, each group in one
transaction, flushes, and prints ``flushed`` with the round's number. Then it writes one more entry,
and prints ``written``. For each failed attempt it prints ``failed`` with its kind and code, and
``suspended`` before it if a buffer was suspended when the attempt failed.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Literal, cast

import trio

import forebay
from forebay.stores import BatchError
from tests.faults.tables import ENTRIES, EVENTS, PATIENT, TABLES, TOTALS, Entry, Event, Total
from tests.faults.watched import watch


async def main(
    path: str,
    start: str,
    rounds: str,
    synchronous: str = "NORMAL",
    checkpoint: str = "4",
    pause: str = "",
    on_failure: str = "stop",
    max_attempts: str = "none",
) -> None:
    attempts = None if max_attempts == "none" else int(max_attempts)
    options = PATIENT.override({"on_failure": on_failure, "retry": {"max_attempts": attempts}})
    async with (
        forebay.open_sqlite(
            path,
            create=TABLES,
            synchronous=cast("Literal['NORMAL', 'FULL']", synchronous),
            pragmas={"wal_autocheckpoint": int(checkpoint)},
        ) as store,
        forebay.open_buffers(store, *TABLES, options=options) as buffers,
    ):
        if pause:
            print("open")
            sys.stdin.readline()

        def report(error: BatchError) -> None:
            if any(now.suspended for now in buffers.statistics().values()):
                print("suspended")
            print("failed", error.kind.name, error.code)

        watch(store, report)
        for i in range(int(start), int(start) + int(rounds)):
            await buffers[ENTRIES].enqueue_many([Entry(f"{i}-{j}", i, j) for j in range(7)])
            await buffers[ENTRIES].enqueue(Entry("shared", -2, i))
            await buffers[EVENTS].enqueue_many([Event(start, i) for _ in range(3)])
            await buffers[TOTALS].enqueue(Total("all", 1))
            await buffers.flush()
            print("flushed", i)
            await buffers[ENTRIES].write(Entry(f"w{i}", -1, i))
            print("written", i)
    print("drained")


if __name__ == "__main__":
    trio.run(partial(main, *sys.argv[1:]))
