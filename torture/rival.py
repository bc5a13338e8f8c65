"""A process that competes for the write lock: it takes the lock for random periods.

Arguments: the database, the name of the process, and a seed.
"""

from __future__ import annotations

import random
import sqlite3
import sys
import time

path, name, seed = sys.argv[1:]
chance = random.Random(seed)
raw = sqlite3.connect(path, timeout=60.0, isolation_level=None)
while True:
    raw.execute("BEGIN IMMEDIATE")
    raw.execute("INSERT INTO rivals VALUES (?)", (name,))
    time.sleep(chance.choice([0.0, 0.001, 0.01, 0.1]))
    raw.execute(chance.choice(["COMMIT", "COMMIT", "COMMIT", "ROLLBACK"]))
    time.sleep(chance.choice([0.0, 0.01, 0.1]))
