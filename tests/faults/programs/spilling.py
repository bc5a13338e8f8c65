"""Leave a block with entries that cannot be committed, and print what became of them.

Arguments: the path of the spill; the number of the user to run as, 0 for the current one; what the
process lacks when the block ends: `threads`, `memory` or `nothing`. It prints `open` in the block,
and leaves the block at the next line of its input. Then it prints a JSON object.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path

import trio

from forebay import BufferOptions, DrainError, OptionsError, Table, open_buffers
from forebay.testing import MemoryStore

BLOBS = Table.from_columns({"name": str, "content": bytes}, name="blobs", key="name")
AT_ONCE = BufferOptions(drain_timeout=0.0)

MIB = 2**20
LIMITS = {"threads": 4 * MIB, "memory": 120 * MIB}
"""Memory that the process may still take: less than a thread's stack, or than a text of the row."""


def limit(lack: str) -> None:
    if lack in LIMITS:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        used = pages * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + LIMITS[lack], resource.RLIM_INFINITY))


async def leave(spill: str, lack: str) -> None:
    store = MemoryStore()
    store.stop()
    async with open_buffers(store, BLOBS, options=AT_ONCE, spill=spill) as buffers:
        await buffers[BLOBS].enqueue(("a", bytes(64 * MIB if lack == "memory" else 1)))
        print("open")
        sys.stdin.readline()
        limit(lack)


def main(spill: str, user: int, lack: str) -> None:
    if user:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    try:
        trio.run(leave, spill, lack)
    except OptionsError as error:
        print(json.dumps({"refused": str(error)}))
        sys.stdin.readline()
    except DrainError as error:
        entries = len(error.unsettled["blobs"].entries)
        notes = getattr(error, "__notes__", [])
        print(json.dumps({"entries": entries, "spill": error.spill, "notes": notes}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
