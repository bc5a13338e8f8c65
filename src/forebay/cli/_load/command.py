"""The `forebay load` command: its options, its help, its exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click
import trio

import forebay
from forebay.cli._load.arguments import DEFAULT_BATCH_SIZE, DEFAULT_LIMIT, MERGES, TYPES, to_request
from forebay.cli._load.interpreter import tuned
from forebay.cli._load.load import load
from forebay.cli._load.options import DEFAULT_LINE_LIMIT
from forebay.cli._load.progress import Display, open_display
from forebay.cli._load.report import LIMIT_OPTION, LoadReport, print_report
from forebay.cli._load.sources import Format, source_size

_DEFAULTS = forebay.BufferOptions()


@click.command(name="load", short_help="Load rows from files into a table.")
@click.argument(
    "files",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
)
@click.option(
    "--database",
    metavar="DB",
    required=True,
    type=click.Path(dir_okay=False),
    help="The SQLite file. It is created if it does not exist.",
)
@click.option(
    "--table",
    metavar="T",
    required=True,
    help="The table. It is created with the columns of the input if it does not exist.",
)
@click.option(
    "--key",
    metavar="A,B",
    help="The columns of the key. A row is merged into the row that has the same key. Without "
    "--key, every row is added.",
)
@click.option(
    "--merge",
    type=click.Choice(list(MERGES)),
    help="With --key: 'replace' (the default) replaces the earlier row of a key, 'keep' keeps it.",
)
@click.option(
    "--alter",
    is_flag=True,
    help="Alter an existing table to add any missing columns. JSON is read twice then, so that "
    "keys which only later objects have become columns too. For that, standard input is kept in a "
    "temporary file, and is loaded when it ends.",
)
@click.option(
    "--type",
    "types",
    metavar="COLUMN TYPE",
    type=(str, click.Choice(TYPES, case_sensitive=False)),
    multiple=True,
    help="The type of a new column: INTEGER, REAL (or FLOAT), TEXT. A number may be written in any "
    "way then. "
    "May be repeated.",
)
@click.option(
    "--not-null",
    metavar="COLUMN",
    multiple=True,
    help="A column that should be created as NOT NULL. A row without a value is malformed. May be "
    "repeated.",
)
@click.option(
    "--default",
    "defaults",
    metavar="COLUMN VALUE",
    type=(str, str),
    multiple=True,
    help="Default value that should be set for a new column. May be repeated.",
)
@click.option(
    "--index",
    "indexes",
    metavar="A,B",
    multiple=True,
    help="The columns of an index to create, if the table has no such index. May be repeated.",
)
@click.option("--strict", is_flag=True, help="Apply STRICT mode to a created table.")
@click.option(
    "--truncate",
    is_flag=True,
    help="Delete the rows of an existing table, in a transaction of their own, before the first "
    "row is loaded.",
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice([known.value for known in Format]),
    help="The format of the inputs. By default, that of the file's extension; CSV for standard "
    "input.",
)
@click.option(
    "--encoding",
    metavar="NAME",
    help="The encoding of the inputs, by its name in Python. By default UTF-8, or UTF-16 if the "
    "input begins with its byte order mark.",
)
@click.option(
    "--delimiter", metavar="C", help="The character between the cells of CSV; \\t is a tab."
)
@click.option(
    "--quotechar",
    metavar="C",
    help="The character around cells that contain delimiters or line ends. '' for none.  "
    '[default: "]',
)
@click.option(
    "--sniff",
    is_flag=True,
    help="Detect the delimiter and the quote character of CSV, and spaces after delimiters.",
)
@click.option(
    "--no-headers",
    is_flag=True,
    help="The CSV has no header. Its columns are column1, column2, and so on.",
)
@click.option(
    "--header", metavar="A,B", help="The CSV has no header. Its columns have these names."
)
@click.option(
    "--short-rows",
    type=click.Choice(["refuse", "pad"]),
    default="refuse",
    show_default=True,
    help="What to do with a row of CSV that has too few cells: 'pad' fills it with NULL.",
)
@click.option(
    "--flatten",
    is_flag=True,
    help='Flatten nested JSON objects, so {"a": {"b": 1}} becomes {"a_b": 1}. Without it, they '
    "are loaded as JSON text, as arrays are.",
)
@click.option(
    "--stop-after", metavar="N", type=click.IntRange(min=1), help="Stop after N rows of the inputs."
)
@click.option(
    "--null",
    "nulls",
    metavar="NA",
    multiple=True,
    help="A text that means NULL, in any column. May be repeated.",
)
@click.option(
    "--no-detect-types", is_flag=True, help="Load every column of CSV and TSV input as TEXT."
)
@click.option(
    "--keep-misfits",
    is_flag=True,
    help="Store a value of another type than its column's as it is, such as a text in a column of "
    "integers. Without it, the row is malformed.",
)
@click.option(
    "--batch-size",
    metavar="N",
    type=click.IntRange(min=1),
    default=DEFAULT_BATCH_SIZE,
    show_default=True,
    help="The maximum number of rows per transaction.",
)
@click.option(
    "--flush-interval",
    metavar="S",
    type=click.FloatRange(min=0),
    default=_DEFAULTS.flush_interval,
    show_default=True,
    help="The maximum time that a row waits for others to share its transaction, in seconds.",
)
@click.option(
    "--max-line-bytes",
    metavar="N",
    type=click.IntRange(min=1),
    default=DEFAULT_LINE_LIMIT,
    show_default=True,
    help="The maximum length of a line, and of a row of several lines, in bytes. The load may need "
    "some fifteen times as much memory.",
)
@click.option(
    "--skip-malformed",
    is_flag=True,
    help="Skip rows that are malformed or do not fit the table. Without it, the first such row "
    "ends the load.",
)
@click.option(
    LIMIT_OPTION,
    "limit",
    metavar="N|none",
    help="The maximum number of rows per minute that the table may refuse; one more ends the "
    "load. Refused rows are kept as dead letters.  "
    f"[default: {DEFAULT_LIMIT:,}; none with --skip-malformed]",
)
@click.option(
    "--rejects",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Write all rows that are malformed or that the table refuses to this file, as NDJSON "
    "with source, line, reason and text. It is replaced if it exists. Implies --skip-malformed.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print the table that would be created and the first rows, and change nothing.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--quiet", is_flag=True, help="Print problems only.")
def load_command(**options: Any) -> None:
    """Load rows from files into a table of a SQLite file.

    FILE is CSV or TSV with a header, one JSON object per line (.ndjson, .jsonl), or an array of
    JSON objects (.json). It may be compressed by gzip or zstd, or be the only file in a zip
    archive. A dash reads standard input.

    \b
    Examples:
      forebay load people.csv --database my.db --table people --key id
      forebay load 2024.csv.gz 2025.csv.gz --database my.db --table sales
      forebay load export.csv --delimiter ';' --encoding cp1252 \\
          --database my.db --table export
      zcat events.jsonl.gz | forebay load - --format ndjson \\
          --database my.db --table events --key id --merge keep

    The types of a new table's columns are detected from the first 10,000 rows, or the rows in the
    first 64 Mi characters. A column is INTEGER or REAL if the numbers give back all its texts;
    otherwise it is TEXT. So 007, 1.10, 1e5 and dates stay as they are, and so do numbers that are
    written in different ways (2.0 and 2, 1e-05 and 0.00001). After these rows, a row with a value
    that does not fit its column is malformed. Rows from a pipe are not loaded before these rows
    have arrived or the pipe has ended; --no-detect-types loads CSV at once.

    In an existing table, and for a column with --type, the declared types decide, and rows are
    loaded at once. A number may be written in any way there, except in the columns of --key, which
    must give back their texts. So use --type to load prices such as 1.10 as REAL.

    An empty cell is NULL in a column of numbers, and an empty text in a column of text; --null ''
    makes it NULL in both. A JSON object is a whole row: a column that it does not name is set to
    the default that the table declares, or to NULL, also if other objects name it. CSV sets the
    columns in its header only.

    SIGINT and SIGTERM end the reading, and the accepted rows are committed. A second signal gives
    up on these rows and prints which are not in the table.

    \b
    Exit codes:
      0    every row is in the table
      1    some rows were rejected; all others are in the table
      2    wrong usage, or an error in an input or the database; the rows before the error are
           in the table
      130  ended by SIGINT
      143  ended by SIGTERM
    """  # noqa: D301  # \b is click's mark for lines that it must not join
    quiet, as_json = options.pop("quiet"), options.pop("as_json")
    request = to_request(**options)
    display = _display(request.files, quiet=quiet)

    def on_end(report: LoadReport) -> None:
        display.close()
        print_report(report, quiet=quiet, as_json=as_json)

    try:
        with tuned():
            report = trio.run(load, request, display, on_end)
    except KeyboardInterrupt:  # before or after the load handles SIGINT
        sys.exit(130)
    finally:
        display.close()
    sys.exit(report.exit_code)


def _display(files: Sequence[str], *, quiet: bool) -> Display:
    sizes = [source_size(path) for path in files]
    known = [size for size in sizes if size is not None]
    return open_display(sum(known) if len(known) == len(sizes) else None, quiet=quiet)
