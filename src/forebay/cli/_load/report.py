"""The result of a load, and what `forebay load` prints about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import forebay
from forebay._errors import format_count
from forebay.cli._errors import InputRowError
from forebay.cli._failures import describe_os_error
from forebay.cli._load.preview import Preview
from forebay.cli._load.rejects import Reject
from forebay.cli._output import OutputError, echo, print_columns, print_json
from forebay.stores.sqlite._schema import ALTER_ADVICE

LIMIT_OPTION = "--dead-letters-per-minute"

_SHOWN_ROWS = 3
"""How many of the first rows are shown, and how many of the last rows."""
_SHOWN_CHARACTERS = 200
_SKIP_ADVICE = "To skip such rows, use --skip-malformed; --rejects FILE also writes them to a file."


@dataclass(slots=True)
class LoadReport:
    """The result of a load.

    Attributes:
        table: the name of the table.
        database: the path of the database.
        statistics: those of the buffer at its end; None if no buffer was opened.
        rejected: rows that are not in the table because they are malformed or do not fit it.
        rejects: the first of these rows.
        preview: what the load would do; None if it was carried out.
        seconds: how long the load took.
        failures: the errors that ended the load early.
        signal_code: the exit code for the signal that ended the load; None without a signal.
    """

    table: str
    database: str
    statistics: forebay.BufferStatistics | None = None
    rejected: int = 0
    rejects: Sequence[Reject] = ()
    preview: Preview | None = None
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


def print_report(report: LoadReport, *, quiet: bool, as_json: bool) -> None:
    """Print the errors to standard error, and the result to standard output.

    Args:
        report: the result of the load.
        quiet: whether to print errors only.
        as_json: whether to print the result as JSON, also if `quiet`.
    """
    for failure in report.failures:
        echo(f"Error: {describe_failure(failure)}", err=True)
    try:
        if as_json:
            print_json(_as_json(report))
        elif report.preview is not None:
            _print_preview(report.preview)
        elif not quiet and (report.statistics is not None or not report.failures):
            echo(_summary(report))
    except OutputError as error:  # the rows are in the table all the same
        echo(f"The summary is not printed: {error}", err=True)


def describe_failure(failure: Exception) -> str:
    """Return a message for an error, with some of the rows that are not in the table."""
    if isinstance(failure, InputRowError):
        return f"{failure}\n{_SKIP_ADVICE}"
    if isinstance(failure, forebay.SchemaError):
        return str(failure).replace(ALTER_ADVICE, "to add what is missing, use --alter")
    if isinstance(failure, OSError):
        return describe_os_error(failure)
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
    counts = _counts(report)
    lines = [f"{name:<10} {count:>14,}" for name, count in counts.items()]
    rate = counts["read"] / report.seconds if report.seconds else 0
    lines += [f"{'seconds':<10} {report.seconds:>14,.2f}", f"{'rows/s':<10} {rate:>14,.0f}"]
    if report.rejects:
        lines += ["", "rejected rows:", *(f"  {reject}" for reject in report.rejects)]
        more = report.rejected - len(report.rejects)
        if more > 0:
            lines.append(f"  ... and {more:,} more")
    return "\n".join(lines)


def _counts(report: LoadReport) -> dict[str, int]:
    statistics = report.statistics
    read = report.rejected
    committed = superseded = 0
    if statistics is not None:
        read += statistics.accepted - statistics.dead_lettered
        committed, superseded = statistics.committed, statistics.superseded
    return {
        "read": read,
        "committed": committed,
        "superseded": superseded,
        "rejected": report.rejected,
    }


def _as_json(report: LoadReport) -> dict[str, object]:
    document: dict[str, object] = {"database": report.database, "table": report.table}
    if report.preview is None:
        document |= _counts(report) | {"seconds": round(report.seconds, 3)}
    else:
        document |= asdict(report.preview) | {"rejected": report.rejected}
    return document | {
        "rejected_rows": [asdict(reject) for reject in report.rejects],
        "errors": [describe_failure(failure) for failure in report.failures],
        "exit_code": report.exit_code,
    }


def _print_preview(preview: Preview) -> None:
    echo("\n".join(preview.sql) or "The table exists, and has the columns of the input.")
    if preview.rows:
        echo()
        print_columns(
            preview.columns,
            [["NULL" if value is None else str(value) for value in row] for row in preview.rows],
        )
