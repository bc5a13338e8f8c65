"""Hold the write lock of a database: print ``held``, wait for a line, release, print ``let go``.

Arguments: the database, and optionally for how many seconds to hold the lock, instead of waiting
for a line.
"""

from __future__ import annotations

import sqlite3
import sys
import time

raw = sqlite3.connect(sys.argv[1], timeout=60.0, isolation_level=None)
raw.execute("BEGIN IMMEDIATE")
print("held")
if len(sys.argv) > 2:
    time.sleep(float(sys.argv[2]))
else:
    sys.stdin.readline()
raw.execute("ROLLBACK")
print("let go")
