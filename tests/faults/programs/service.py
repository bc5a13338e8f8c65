"""A service that drains on the first signal, and ends the drain on the second (docs/shut-down.md).

Arguments: the database, ``recipe`` or ``plain``, which leaves signals to Python, and `on_failure`.
With ``suspend`` the service prints ``open`` and waits for a line before it enqueues, and then
flushes. It enqueues 100 entries and 50 events, prints ``accepted``, and waits for a signal. It
prints ``leaving`` when it leaves the block, and ``failed`` for each failed attempt.
"""

from __future__ import annotations

import signal
import sys
from functools import partial

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


async def collect(buffers: forebay.Buffers, on_failure: str) -> None:
    try:
        if on_failure == "suspend":
            print("open")
            sys.stdin.readline()
        await buffers[ENTRIES].enqueue_many([Entry(f"k{i}", 0, i) for i in range(100)])
        await buffers[EVENTS].enqueue_many([Event("service", i) for i in range(50)])
        print("accepted")
        if on_failure == "suspend":
            await buffers.flush()
        await trio.sleep_forever()
    finally:
        print("leaving")


async def service(path: str, signals: str = "recipe", on_failure: str = "stop") -> None:
    options = PATIENT.override({"on_failure": on_failure})
    async with (
        forebay.open_sqlite(path, create=TABLES, busy_timeout=0.001) as store,
        trio.open_nursery() as nursery,
    ):
        watch(store, lambda error: print("failed", error.code))
        async with forebay.open_buffers(store, ENTRIES, EVENTS, options=options) as buffers:
            with trio.CancelScope() as work:
                if signals == "recipe":
                    nursery.start_soon(end_on_signal, work, buffers)
                await collect(buffers, on_failure)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(partial(service, *sys.argv[1:]))
