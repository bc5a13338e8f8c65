"""`forebay doctor`: whether a database needs a person."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, get_args

import click
import trio

import forebay
from forebay.cli._output import echo, print_json, print_wrapped
from forebay.doctor import HealthReport, Integrity, Verdict, examine

_INDENT = 24


@click.command(name="doctor", short_help="Tell whether a database needs a person.")
@click.argument("database", metavar="DB", type=click.Path())
@click.option(
    "--tables",
    "declarations",
    metavar="MODULE[:NAME]",
    multiple=True,
    help="The program's declarations, to compare the tables with: a forebay.Table, or several, by "
    "the name they have in a module, or all that a module has. May be given more than once.",
)
@click.option(
    "--spill",
    "spills",
    metavar="FILE",
    multiple=True,
    help="A spill file to look at; those beside DB with 'spill' in their names are found anyway.",
)
@click.option(
    "--integrity",
    type=click.Choice(get_args(Integrity)),
    default="quick",
    show_default=True,
    help="How thoroughly to look for damage. 'quick' reads the whole file, 'full' also compares "
    "each index with its table, 'none' does not look.",
)
@click.option(
    "--strict", is_flag=True, help="Exit with 1 on advice, too, such as to upgrade SQLite."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def doctor_command(
    database: str,
    declarations: tuple[str, ...],
    spills: tuple[str, ...],
    integrity: Integrity,
    strict: bool,
    as_json: bool,
) -> None:
    """Tell whether a database, and what lies beside it, needs a person.

    It looks at SQLite's version, the journal mode, pages and log, damage, foreign keys, tables,
    dead letters, spill files and the room on the disk. Nothing is written, and a program may be
    using the database meanwhile.

    \b
    Exit codes:
      0    nothing that it found needs a person; there may be advice
      1    something does; with --strict also where there is advice
      2    wrong usage
    """  # noqa: D301  # the \\b is click's
    tables = [table for name in declarations for table in _tables(name)]
    with _killed_by_sigint():
        report = trio.run(
            partial(examine, database, tables=tables, integrity=integrity, spills=spills)
        )
    if as_json:
        print_json(_as_json(report))
    else:
        _print(report)
    worst = Verdict.ADVICE if strict else Verdict.PROBLEM
    sys.exit(1 if report.count(worst) or not report.healthy else 0)


def _print(report: HealthReport) -> None:
    colors = {Verdict.PROBLEM: "red", Verdict.ADVICE: "yellow"}
    for finding in report.findings:
        label = f"{finding.verdict.value:<8}{finding.check:<14}"
        print_wrapped(label, finding.message, indent=_INDENT)
    problems, advice = report.count(Verdict.PROBLEM), report.count(Verdict.ADVICE)
    echo()
    if problems:
        text = f"{problems} problem{'s' * (problems > 1)}: see above."
        echo(text, fg=colors[Verdict.PROBLEM], bold=True)
    elif advice:
        echo(f"Nothing here needs a person; {advice} piece{'s' * (advice > 1)} of advice.")
    else:
        echo("Nothing here needs a person.")


def _as_json(report: HealthReport) -> dict[str, Any]:
    return {
        "path": report.path,
        "healthy": report.healthy,
        "findings": [
            {
                "check": finding.check,
                "verdict": finding.verdict.value,
                "message": finding.message,
                "values": dict(finding.values),
            }
            for finding in report.findings
        ],
    }


@contextmanager
def _killed_by_sigint() -> Generator[None, None, None]:
    """Let SIGINT end the process at once: what only reads leaves nothing half done.

    Python's own handler would wait for the end of a check, which may take minutes.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _tables(name: str) -> list[forebay.Table[Any]]:
    """Find declarations by the name of a module, and of what is in it."""
    module_name, _, attribute = name.partition(":")
    sys.path.insert(0, "")  # the current folder, as for python -m
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the module is the program's own: anything may come
        raise click.UsageError(f"--tables {name!r}: {error!r}") from error
    finally:
        sys.path.remove("")
    if not attribute:
        found: object = list(vars(module).values())
    elif hasattr(module, attribute):
        found = getattr(module, attribute)
    else:
        raise click.UsageError(f"--tables {name!r}: {module_name} has no {attribute!r}")
    if isinstance(found, Mapping):
        found = found.values()
    members = found if isinstance(found, Iterable) else [found]
    tables = [member for member in members if isinstance(member, forebay.Table)]
    if not tables:
        raise click.UsageError(f"--tables {name!r}: there is no forebay.Table")
    return list(dict.fromkeys(tables))
