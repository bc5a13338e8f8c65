"""Torture forebay: `nox -s torture -- --seconds 300 --seed 7`.

Many producers write to several tables of one database while another process locks it, the program
is killed and restarted, and system calls fail. After each episode, the acknowledgements that the
program received are compared with the database. The seed decides the faults; the moment at which
each takes effect depends on the machine. The exit status is 1 if an entry was lost, written twice
or written in part.
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
    arguments.add_argument("--seconds", type=float, default=60.0, help="the approximate duration")
    arguments.add_argument(
        "--seed",
        type=int,
        default=random.SystemRandom().randrange(10**6),
        help="decides the faults; default: random",
    )
    arguments.add_argument("--verbose", action="store_true", help="print every episode")
    options = arguments.parse_args()

    folder = Path(mkdtemp(prefix="forebay-torture-"))
    path = folder / "torture.db"
    tables.create_database(path)
    print(f"seed {options.seed}, {options.seconds:g} seconds, {path}", flush=True)
    with Zygote(folder, patience=180.0, preload="torture.tables") as zygote:
        missing = why_no_strace(zygote)
        if missing is not None:
            print(f"no faults are injected into system calls: {missing}")
        session = Session(
            zygote, path, options.seed, strace=missing is None, verbose=options.verbose
        )
        session.run(until=time.monotonic() + options.seconds, long_lock=options.seconds >= 180)
    print(session.report())
    if session.violations:
        print(f"the database is kept for inspection: {path}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
