"""How fast does `forebay load` load a CSV file, and how much memory does it need?

The file has 19 columns, like that of the flights in `demo/`: integers with gaps, short texts and
times. Each contestant is a process, from its start to its end, which finds its modules compiled, as
pip installs them: `forebay load`, `sqlite-utils insert`, and the `.import` of the sqlite3 shell,
which detects no types: all its columns are TEXT. The CPU time is that of all threads.

The memory of a load is the peak of its process, from Linux's /proc. It must not grow with the file:
5,000,000 rows are compared with 1,000,000.
"""

from __future__ import annotations

import atexit
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import cache, partial
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from time import perf_counter

from benchmarks.harness import Case, Contestant
from benchmarks.results import RATE, Measure

CPU = Measure("CPU time", "s", more_is_better=False)
MEMORY = Measure("memory", "MB", more_is_better=False)
TABLE = "flights"
HEADER = (
    "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,"
    "flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour"
)
Command = Callable[[Path, Path], Sequence[str]]
"""A function that returns the command which loads a file into a database."""


def cases(full: bool) -> Iterator[Case]:
    rows = 336_776 if full else 100_000
    commands: dict[str, Command] = {"forebay load": _forebay, "sqlite-utils insert": _sqlite_utils}
    if shutil.which("sqlite3"):
        commands["sqlite3 .import"] = _shell
    yield Case(
        "loader",
        f"{rows:,} rows",
        [RATE, CPU],
        [_contestant(name, command, rows) for name, command in commands.items()],
        rounds=5 if full else 3,
        warm_ups=1,  # which compiles the modules
    )
    if full and sys.platform == "linux":
        yield Case(
            "loader",
            "memory",
            [RATE, MEMORY],
            [_measured(f"{n:,} rows", n) for n in (5_000_000, 1_000_000)],
            rounds=1,
            warm_ups=0,
        )


def _forebay(file: Path, database: Path) -> Sequence[str]:
    arguments = ["load", file, "--database", database, "--table", TABLE, "--null", "NA", "--quiet"]
    return [sys.executable, "-m", "forebay", *map(str, arguments)]


def _sqlite_utils(file: Path, database: Path) -> Sequence[str]:
    arguments = ["insert", database, TABLE, file, "--csv", "--silent"]
    return [sys.executable, "-m", "sqlite_utils", *map(str, arguments)]


def _shell(file: Path, database: Path) -> Sequence[str]:
    return ["sqlite3", str(database), ".mode csv", f".import {file} {TABLE}"]


def _contestant(name: str, command: Command, rows: int) -> Contestant:
    """Return the contestant that runs a command."""

    def run(database: Path) -> Mapping[str, float]:
        arguments = command(_file(rows), database)
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": f"{_folder()}/compiled"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        before = getrusage(RUSAGE_CHILDREN)
        started = perf_counter()
        subprocess.run(arguments, check=True, env=environment)  # noqa: S603  # one of the commands above
        seconds = perf_counter() - started
        after = getrusage(RUSAGE_CHILDREN)
        cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        return {RATE.name: rows / seconds, CPU.name: cpu}

    return Contestant(name, run, check=partial(_check, rows), prepare=_nothing)


def _measured(name: str, rows: int) -> Contestant:
    """Return the contestant that runs the command in a process which measures its own memory."""

    def run(database: Path) -> Mapping[str, float]:
        arguments = _forebay(_file(rows), database)[3:]
        started = perf_counter()
        done = subprocess.run(  # noqa: S603  # the program below
            [sys.executable, "-c", _MEASURED, *arguments],
            check=True,
            capture_output=True,
            text=True,
        )
        return {RATE.name: rows / (perf_counter() - started), MEMORY.name: float(done.stdout)}

    return Contestant(name, run, check=partial(_check, rows), prepare=_nothing)


_MEASURED = """
import contextlib, pathlib, sys
from forebay.cli._command import command

with contextlib.suppress(SystemExit):
    command(sys.argv[1:])
status = pathlib.Path("/proc/self/status").read_text()
print(int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6)
"""
"""The command, which prints the peak of its memory in MB. It imports little else."""


def _nothing(database: Path) -> None:
    """Leave the creation of the database to the command."""


def _check(rows: int, database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        query = f"SELECT count(*), sum(CAST(flight AS INTEGER)) FROM {TABLE}"
        found = connection.execute(query).fetchone()
    expected = (rows, sum(number % 8500 for number in range(rows)))
    if found != expected:
        raise AssertionError(f"the table has {found}; expected {expected}")


@cache
def _file(rows: int) -> Path:
    """Write a file of this number of rows, once, and return its path."""
    file = Path(_folder(), f"{rows}.csv")
    draw = random.Random(1)
    carriers = [draw.choice("ABDFHMOUVWY") + draw.choice("ABLOQSVX69") for _ in range(16)]
    planes = [f"N{draw.randrange(100, 999)}{draw.choice(carriers)}" for _ in range(4000)]
    with file.open("w") as lines:
        lines.write(HEADER + "\n")
        for number in range(rows):
            month, day, hour = number // 28_000 % 12 + 1, number // 1_000 % 28 + 1, number % 19 + 5
            minute, late = draw.randrange(60), draw.randrange(-20, 120)
            delays = (f"{hour}{minute:02}", late, f"{hour + 1}{minute:02}", late - 7)
            departed, by, arrived, at = delays if number % 41 else ("NA",) * 4
            lines.write(
                f"2013,{month},{day},{departed},{hour}30,{by},{arrived},{hour + 1}30,{at},"
                f"{draw.choice(carriers)},{number % 8500},{draw.choice(planes)},JFK,"
                f"{draw.choice('ABCDMSTX')}AX,{draw.randrange(30, 400)},{draw.randrange(80, 2600)},"
                f"{hour},{minute},2013-{month:02}-{day:02}T{hour:02}:00:00Z\n"
            )
    return file


@cache
def _folder() -> str:
    """Create a folder for the files, which is removed when the run ends."""
    folder = tempfile.mkdtemp(prefix="forebay-bench-files-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
