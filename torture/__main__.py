"""Torture forebay: `nox -s torture -- --seconds 300 --seed 7`.

Many producers write to several tables of one file while another process takes the lock, the
program is killed and started again, and system calls fail. After each life of the program all that
it was told is compared with the file. Faults are drawn from the seed; which instant they hit
depends on the machine. Exits with 1 where anything was lost, doubled, or in part.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import time
from pathlib import Path
from tempfile import mkdtemp

from tests.faults.harness import Zygote, why_no_strace
from torture import tables
from torture.session import Session


def main() -> int:
    arguments = argparse.ArgumentParser(prog="nox -s torture --", description=__doc__)
    arguments.add_argument("--seconds", type=float, default=60.0, help="how long, about")
    arguments.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    arguments.add_argument("--verbose", action="store_true", help="print each episode")
    asked = arguments.parse_args()

    folder = Path(mkdtemp(prefix="forebay-torture-"))
    path = folder / "torture.db"
    tables.make(path)
    print(f"seed {asked.seed}, {asked.seconds:g} seconds, {path}", flush=True)
    with Zygote(folder, patience=180.0, preload="torture.tables") as zygote:
        missing = why_no_strace(zygote)
        if missing is not None:
            print(f"without faults of system calls: {missing}")
        session = Session(zygote, path, asked.seed, strace=missing is None, verbose=asked.verbose)
        session.run(until=time.monotonic() + asked.seconds, long_lock=asked.seconds >= 180)
    print(session.report())
    if session.violations:
        print(f"the file is kept: {path}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
