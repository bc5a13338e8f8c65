"""Replay the dead letters of a database, two per transaction.

It prints ``open``, waits for a line, replays, and prints ``ended`` with the numbers of letters that
were replayed and refused. Arguments: the database, and spill files to import first.
"""

from __future__ import annotations

import sys

import trio

import forebay
from forebay import dead_letters
from tests.faults.tables import PATIENT


async def main(*arguments: str) -> None:
    path, *spills = arguments
    options = PATIENT.override({"batch_size": 2, "dead_letters_per_minute": None})
    async with forebay.open_sqlite(path, pragmas={"wal_autocheckpoint": 4}) as store:
        print("open")
        sys.stdin.readline()
        for spill in spills:
            await dead_letters.import_spill(store, spill)
        result = await dead_letters.replay(store, options=options)
    print("ended", len(result.replayed), len(result.refused))


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
