"""A program that exports its telemetry: python exporting.py DATABASE SHUTDOWN_TIMEOUT.

It prints the seconds that each of its stages took: 'drained', 'exported'.
"""

from __future__ import annotations

import sys
import time
from typing import NamedTuple

import trio

import forebay
from forebay.otlp import export_telemetry


class KeyValue(NamedTuple):
    key: str
    payload: str
    size: int


KEY_VALUES = forebay.Table(KeyValue, name="key_values", key="key")


async def main(path: str, shutdown_timeout: float) -> None:
    async with export_telemetry(service_name="a program", shutdown_timeout=shutdown_timeout):
        began = time.monotonic()
        async with (
            forebay.open_sqlite(path, create=[KEY_VALUES]) as store,
            forebay.open_buffers(store, KEY_VALUES) as buffers,
        ):
            buffer = buffers[KEY_VALUES]
            await buffer.enqueue_many(KeyValue(f"k{n % 500}", "{}", n) for n in range(1500))
            await buffer.flush()
            await buffer.enqueue_delete("k1")
            await buffer.write(KeyValue("z", "{}", 1))
            await buffer.enqueue_many(KeyValue(f"drained {n}", "{}", n) for n in range(7))
        print(f"drained {time.monotonic() - began:.3f}", flush=True)
        began = time.monotonic()
    print(f"exported {time.monotonic() - began:.3f}", flush=True)


trio.run(main, sys.argv[1], float(sys.argv[2]))
