"""The program under test: many producers, which print each acknowledgement that they receive.

Arguments: the database, the number of the episode, the number of producers, the steps of each, and
the number of steps between two flushes.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from functools import partial

import trio

import forebay
from torture.tables import (
    EVENTS,
    SLOTS,
    STRICT,
    TABLES,
    TOTALS,
    Event,
    Strict,
    Total,
    enqueue_slot,
    slot_after,
)

OPTIONS = forebay.BufferOptions(
    capacity=500,
    batch_size=50,
    flush_interval=0.01,
    drain_timeout=90.0,
    dead_letters_per_minute=None,
    retry=forebay.RetryPolicy(initial_delay=0.005, max_delay=0.05),
    on_failure="suspend",
)


def acknowledge(*words: object) -> None:
    """Print a line in one system call, so that a kill cannot leave a part of it."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def produce(buffers: forebay.Buffers, name: str, steps: int, stride: int) -> None:
    reads = 0
    for step in range(steps):
        # This never raises WouldBlock: each producer has at most `stride` steps pending.
        enqueue_slot(buffers[SLOTS], name, step)
        await buffers[EVENTS].enqueue(Event(name, step))
        await buffers[TOTALS].enqueue(Total(name, 1, step))
        reads += await read_back(buffers, name, step)
        if step % stride == stride - 1 or step == steps - 1:
            await buffers.flush()
            acknowledge("flushed", name, step)
            acknowledge("read", name, reads)
            reads = 0
        if step % 3 == 0:
            await write(buffers[STRICT], Strict(f"{name} {step}", step % 5))


async def read_back(buffers: forebay.Buffers, name: str, step: int) -> int:
    """Read what this producer wrote, and return the number of rows that could be read."""
    try:
        slot = await buffers[SLOTS].get(name)
        total = await buffers[TOTALS].get(name)
    except (forebay.StoreError, sqlite3.Error):  # an injected fault, or a table that is renamed
        return 0
    state = None if slot is None else (slot.step, slot.note)
    if state != slot_after(step):
        acknowledge("misread", SLOTS.name, name, step, slot)
    if total != Total(name, step + 1, step):
        acknowledge("misread", TOTALS.name, name, step, total)
    return 2


async def write(strict: forebay.Buffer[Strict], row: Strict) -> None:
    try:
        await strict.write(row)
    except forebay.RowError as error:
        acknowledge("refused", row.key, error.dead_letter)
    else:
        acknowledge("written", row.key)


def check_account(buffers: forebay.Buffers | None, error: BaseException) -> None:
    """Print a line if the error that leaves the block does not name each pending entry."""
    if buffers is None:
        return
    pending = sum(each.pending for each in buffers.statistics().values())
    named = unsettled(error)
    if pending != named:
        acknowledge("unaccounted", pending, named)


def unsettled(error: BaseException) -> int:
    """Return the number of entries that an error names."""
    match error:
        case BaseExceptionGroup(exceptions=errors):
            return sum(map(unsettled, errors))
        case forebay.FlushError():
            return error.unsettled.count
        case forebay.DrainError():
            return sum(left.count for left in error.unsettled.values())
        case _:
            return 0


async def end_on_signal(work: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        await anext(signals)
        work.cancel()


async def main(path: str, episode: str, producers: str, steps: str, stride: str) -> None:
    async with (
        forebay.open_sqlite(path, synchronous="FULL", pragmas={"wal_autocheckpoint": 50}) as store,
        trio.open_nursery() as outer,
    ):
        buffers: forebay.Buffers | None = None
        try:
            async with forebay.open_buffers(store, *TABLES, options=OPTIONS) as buffers:
                with trio.CancelScope() as work:
                    outer.start_soon(end_on_signal, work)
                    acknowledge("open")
                    sys.stdin.readline()
                    async with trio.open_nursery() as nursery:
                        for number in range(int(producers)):
                            name = f"{episode}.{number}"
                            nursery.start_soon(produce, buffers, name, int(steps), int(stride))
        except BaseException as error:
            check_account(buffers, error)
            raise
        outer.cancel_scope.cancel()
    acknowledge("drained" if not work.cancelled_caught else "cut")


if __name__ == "__main__":
    try:
        trio.run(partial(main, *sys.argv[1:]))
    except* KeyboardInterrupt:
        acknowledge("interrupted")
