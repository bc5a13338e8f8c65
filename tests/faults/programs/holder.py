"""Hold a database's write lock: ``held``, until a line comes; then let go and print ``let go``."""

from __future__ import annotations

import sqlite3
import sys

raw = sqlite3.connect(sys.argv[1], timeout=60.0, isolation_level=None)
raw.execute("BEGIN IMMEDIATE")
print("held")
sys.stdin.readline()
raw.execute("ROLLBACK")
print("let go")
