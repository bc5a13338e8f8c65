"""SIGTERM and SIGINT in full flow, with the recipe of the README, in a program of its own."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

PROGRAM = """
import signal
import sys
from typing import NamedTuple

import forebay
import trio


class Event(NamedTuple):
    producer: int
    number: int


events = forebay.Table(Event, name="events")


async def cancel_on_signal(scope):
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        print("ready", flush=True)
        async for _ in signals:
            scope.cancel()


async def produce(buffer, producer):
    number = 0
    while True:
        await buffer.enqueue(Event(producer, number))
        print(producer, number, flush=True)
        number += 1


async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel_on_signal, nursery.cancel_scope)
        async with (
            forebay.open_sqlite(sys.argv[1], create=[events]) as store,
            forebay.open_buffers(store, events) as buffers,
            trio.open_nursery() as producers,
        ):
            for producer in range(4):
                producers.start_soon(produce, buffers[events], producer)


trio.run(main)
print("ended")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_every_row_that_was_accepted_is_there_after_a_signal(
    tmp_path: Path, number: signal.Signals
) -> None:
    """The program ends by itself, and the file holds exactly the rows that were accepted."""
    path = tmp_path / "a.db"
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, path], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        acknowledged = set()
        for line in child.stdout:
            words = line.split()
            if words[0] not in ("ready", "ended"):
                acknowledged.add((int(words[0]), int(words[1])))
            if len(acknowledged) == 500:
                child.send_signal(number)
    assert ("ended", 0) == (words[0], child.returncode)
    with closing(sqlite3.connect(path)) as raw:
        rows = raw.execute("SELECT producer, number FROM events").fetchall()
    assert len(rows) == len(set(rows))
    assert acknowledged == set(rows)
