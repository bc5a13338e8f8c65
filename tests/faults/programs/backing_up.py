"""Back up a database, and print `done`, or the error.

Arguments: the database, the copy, and `overwrite` to replace an existing file.
"""

from __future__ import annotations

import logging
import sys
from functools import partial

import trio

import forebay


async def main(path: str, copy: str, overwrite: str = "") -> None:
    async with forebay.open_sqlite(path) as store:
        print("open")
        sys.stdin.readline()
        try:
            await store.backup(copy, overwrite=bool(overwrite))
        except (OSError, forebay.StoreError) as error:
            print(f"{type(error).__name__}: {error}")
        else:
            print("done")
            sys.stdin.readline()


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, format="%(levelname)s: %(message)s")
    trio.run(partial(main, *sys.argv[1:]))
