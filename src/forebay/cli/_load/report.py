"""What `forebay load` prints at its end."""

from __future__ import annotations

import forebay
from forebay.cli._load.load import Report
from forebay.cli._output import OutputError, echo, printable

LIMIT_OPTION = "--dead-letters-per-minute"
_SHOWN_ROWS = 3  # from the front and from the end


def print_report(report: Report, *, quiet: bool) -> None:
    """Print what became of the load."""
    for failure in report.failures:
        echo(f"Error: {_told(failure)}", err=True)
    if not quiet and (report.statistics is not None or not report.failures):
        try:
            echo(_summary(report))
        except OutputError as error:
            echo(f"the summary could not be printed: {error}", err=True)


def _told(failure: Exception) -> str:
    """A failure in words, with some of the rows that it left out of the table."""
    if isinstance(failure, OSError) and failure.filename is not None:
        return f"{printable(str(failure.filename))}: {failure.strerror}"
    if isinstance(failure, forebay.FlushError):
        why = f"table {failure.buffer!r} does not take the rows: {failure.reason}"
        why = why.replace("BufferOptions.dead_letters_per_minute", LIMIT_OPTION)
        left = failure.unsettled
    elif isinstance(failure, forebay.DrainError):
        [(table, left)] = failure.unsettled.items()
        why = f"table {table!r} did not take the rows in time"
        if left.last_error is not None:
            why += f": {left.last_error}"
    else:
        return str(failure)
    rows = [str(entry.row) for entry in left.entries if isinstance(entry, forebay.Write)]
    if len(rows) > 2 * _SHOWN_ROWS:
        rows[_SHOWN_ROWS:-_SHOWN_ROWS] = ["..."]
    many = "s are" if left.count > 1 else " is"
    known = "not known to be" if failure.in_doubt else "not"
    return "\n".join([why, f"{left.count:,} row{many} read, and {known} in the table:", *rows])


def _summary(report: Report) -> str:
    statistics = report.statistics
    read = report.rejected
    committed = superseded = 0
    if statistics is not None:
        read += statistics.accepted - statistics.dead_lettered
        committed, superseded = statistics.committed, statistics.superseded
    lines = {
        "read": f"{read:,}",
        "committed": f"{committed:,}",
        "superseded": f"{superseded:,}",
        "rejected": f"{report.rejected:,}",
        "seconds": f"{report.seconds:,.2f}",
        "rows/s": f"{read / report.seconds if report.seconds else 0:,.0f}",
    }
    return "\n".join(f"{name:<10} {value:>14}" for name, value in lines.items())
