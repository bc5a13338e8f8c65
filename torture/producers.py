"""The program under test: many producers, which print each acknowledgement that they receive.

Arguments: the database, the number of the episode, the number of producers, the steps of each, and
the number of steps between two flushes.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial

import trio

import forebay
from torture.tables import EVENTS, SLOTS, STRICT, TABLES, TOTALS, Event, Strict, Total, enqueue_slot

OPTIONS = forebay.BufferOptions(
    capacity=500,
    batch_size=50,
    flush_interval=0.01,
    drain_timeout=90.0,
    dead_letters_per_minute=None,
    retry=forebay.RetryPolicy(initial_delay=0.005, max_delay=0.05),
)


def acknowledge(*words: object) -> None:
    """Print a line in one system call, so that a kill cannot leave a part of it."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def produce(buffers: forebay.Buffers, name: str, steps: int, stride: int) -> None:
    for step in range(steps):
        # This never raises WouldBlock: each producer has at most `stride` steps pending.
        enqueue_slot(buffers[SLOTS], name, step)
        await buffers[EVENTS].enqueue(Event(name, step))
        await buffers[TOTALS].enqueue(Total(name, 1, step))
        if step % stride == stride - 1 or step == steps - 1:
            await buffers.flush()
            acknowledge("flushed", name, step)
        if step % 3 == 0:
            await write(buffers[STRICT], Strict(f"{name} {step}", step % 5))


async def write(strict: forebay.Buffer[Strict], row: Strict) -> None:
    try:
        await strict.write(row)
    except forebay.RowError as error:
        acknowledge("refused", row.key, error.dead_letter)
    else:
        acknowledge("written", row.key)


async def end_on_signal(work: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        await anext(signals)
        work.cancel()


async def main(path: str, episode: str, producers: str, steps: str, stride: str) -> None:
    async with (
        forebay.open_sqlite(path, synchronous="FULL", pragmas={"wal_autocheckpoint": 50}) as store,
        trio.open_nursery() as outer,
    ):
        async with forebay.open_buffers(store, *TABLES, options=OPTIONS) as buffers:
            with trio.CancelScope() as work:
                outer.start_soon(end_on_signal, work)
                acknowledge("open")
                sys.stdin.readline()
                async with trio.open_nursery() as nursery:
                    for number in range(int(producers)):
                        name = f"{episode}.{number}"
                        nursery.start_soon(produce, buffers, name, int(steps), int(stride))
        outer.cancel_scope.cancel()
    acknowledge("drained" if not work.cancelled_caught else "cut")


if __name__ == "__main__":
    trio.run(partial(main, *sys.argv[1:]))
