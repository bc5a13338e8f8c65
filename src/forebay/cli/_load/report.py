"""The result of a load, and what `forebay load` prints about it."""

from __future__ import annotations

from dataclasses import dataclass, field

import forebay
from forebay._errors import format_count
from forebay.cli._output import OutputError, echo, printable

LIMIT_OPTION = "--dead-letters-per-minute"

_SHOWN_ROWS = 3
"""How many of the first rows are shown, and how many of the last rows."""
_SHOWN_CHARACTERS = 200


@dataclass(slots=True)
class LoadReport:
    """The result of a load.

    Attributes:
        statistics: those of the buffer at its end; None if no buffer was opened.
        rejected: rows that are not in the table because they are malformed or do not fit it.
        seconds: how long the load took.
        failures: the errors that ended the load early.
        signal_code: the exit code for the signal that ended the load; None without a signal.
    """

    statistics: forebay.BufferStatistics | None = None
    rejected: int = 0
    seconds: float = 0.0
    failures: list[Exception] = field(default_factory=list[Exception])
    signal_code: int | None = None

    @property
    def exit_code(self) -> int:
        """The exit code of the command."""
        if self.signal_code is not None:
            return self.signal_code
        if self.failures:
            return 2
        return 1 if self.rejected else 0


def print_report(report: LoadReport, *, quiet: bool) -> None:
    """Print the errors to standard error, and the summary to standard output.

    Args:
        report: the result of the load.
        quiet: whether to print errors only.
    """
    for failure in report.failures:
        echo(f"Error: {describe_failure(failure)}", err=True)
    if not quiet and (report.statistics is not None or not report.failures):
        try:
            echo(_summary(report))
        except OutputError as error:  # the rows are in the table all the same
            echo(f"The summary is not printed: {error}", err=True)


def describe_failure(failure: Exception) -> str:
    """Return a message for an error, with some of the rows that are not in the table."""
    if isinstance(failure, OSError) and failure.filename is not None:
        return f"{printable(str(failure.filename))}: {failure.strerror}"
    if isinstance(failure, forebay.FlushError):
        reason = f"table {failure.buffer!r} refuses the rows: {failure.reason}"
        reason = reason.replace("BufferOptions.dead_letters_per_minute", LIMIT_OPTION)
        unsettled = failure.unsettled
    elif isinstance(failure, forebay.DrainError):
        [(table, unsettled)] = failure.unsettled.items()
        reason = f"the rows were not written to table {table!r} in time"
        if unsettled.last_error is not None:
            reason += f": {unsettled.last_error}"
    else:
        return str(failure)
    rows = [_excerpt(entry.row) for entry in unsettled.entries if isinstance(entry, forebay.Write)]
    if len(rows) > 2 * _SHOWN_ROWS:
        rows[_SHOWN_ROWS:-_SHOWN_ROWS] = ["..."]
    missing = "may not be" if failure.in_doubt else "not"
    count = format_count(unsettled.count, "row")
    return "\n".join([reason, f"{count} accepted, and {missing} in the table:", *rows])


def _excerpt(row: object) -> str:
    text = str(row)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _summary(report: LoadReport) -> str:
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
