"""A service that drains on the first signal, and ends the drain on the second (docs/guide.md).

Arguments: the database, and ``recipe`` or ``plain``, which leaves signals to Python. The service
enqueues 100 entries and 50 events, prints ``accepted``, and waits for a signal. It prints
``leaving`` when it leaves the block, and ``failed`` for each failed attempt of the drain.
"""

from __future__ import annotations

import signal
import sys

import trio

import forebay
from tests.faults.tables import ENTRIES, EVENTS, PATIENT, TABLES, Entry, Event
from tests.faults.watched import watch


async def end_on_signal(work: trio.CancelScope, buffers: forebay.Buffers) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        await anext(signals)
        work.cancel()
        await anext(signals)
        buffers.give_up()


async def collect(buffers: forebay.Buffers) -> None:
    try:
        await buffers[ENTRIES].enqueue_many([Entry(f"k{i}", 0, i) for i in range(100)])
        await buffers[EVENTS].enqueue_many([Event("service", i) for i in range(50)])
        print("accepted")
        await trio.sleep_forever()
    finally:
        print("leaving")


async def service(path: str, signals: str) -> None:
    async with (
        forebay.open_sqlite(path, create=TABLES, busy_timeout=0.001) as store,
        trio.open_nursery() as nursery,
    ):
        watch(store, lambda error: print("failed", error.code))
        async with forebay.open_buffers(store, ENTRIES, EVENTS, options=PATIENT) as buffers:
            with trio.CancelScope() as work:
                if signals == "recipe":
                    nursery.start_soon(end_on_signal, work, buffers)
                await collect(buffers)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(service, sys.argv[1], sys.argv[2])
