"""Serve statistics at a socket as another user, and print what became of it.

Arguments: the path of the socket; the number of the user to run as, 0 for the current one. It
prints `serving`, or the error, and ends at the next line of its input.
"""

from __future__ import annotations

import os
import sys

import trio

from forebay import Table, open_buffers, serve_statistics
from forebay.testing import MemoryStore

LOG = Table.from_columns({"line": str}, name="log")


async def serve(path: str) -> None:
    async with open_buffers(MemoryStore(), LOG) as buffers, serve_statistics(path, buffers):
        print("serving")
        sys.stdin.readline()


def main(path: str, user: int) -> None:
    if user:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    try:
        trio.run(serve, path)
    except OSError as error:
        print(f"{type(error).__name__}: {error}")
        sys.stdin.readline()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
