"""The command `forebay doctor`: check a database for problems."""

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
from forebay.doctor import Finding, HealthReport, Integrity, Verdict, examine

_INDENT = 24
"""Columns of the label of a finding."""

_IN_ONE_LINE = "sqlite"
"""The check whose advice is the same for every database of a machine: it is printed last, and not
wrapped, so that it distracts from no other finding, and its link can be clicked."""


@click.command(name="doctor", short_help="Check a database for problems.")
@click.argument("database", metavar="DB", type=click.Path(readable=False))
@click.option(
    "--tables",
    "declarations",
    metavar="MODULE[:NAME]",
    multiple=True,
    help="Import a Python module, and compare the tables of DB with the declarations in it: with "
    "all of them, or with NAME, which is a forebay.Table or several. May be given more than once.",
)
@click.option(
    "--spill",
    "spills",
    metavar="FILE",
    multiple=True,
    help="Check this spill file too. Files beside DB with 'spill' in their names are checked in "
    "any case.",
)
@click.option(
    "--integrity",
    type=click.Choice(get_args(Integrity)),
    default="quick",
    show_default=True,
    help="How thoroughly to look for damage. 'quick' reads the whole file, 'full' also compares "
    "each index with its table, 'none' skips this check and that of the foreign keys.",
)
@click.option(
    "--strict", is_flag=True, help="Exit with 1 on advice too, such as to upgrade SQLite."
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
    """Check a database or a spool, and the files beside it, for problems.

    It checks SQLite's version, the journal mode, pages and WAL, damage, foreign keys, tables, dead
    letters, rows that wait for ClickHouse, spill files and free disk space. It writes nothing, and
    a program may be using the database meanwhile.

    \b
    Exit codes:
      0    no problem; there may be advice
      1    a problem; with --strict also if there is advice
      2    wrong usage
    """  # noqa: D301  # \\b is an escape of click's
    tables = [table for name in declarations for table in _import_tables(name)]
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
    in_one_line: list[Finding] = []
    for finding in report.findings:
        if finding.check == _IN_ONE_LINE and finding.verdict is Verdict.ADVICE:
            in_one_line.append(finding)
        else:
            print_wrapped(_label(finding), finding.message, indent=_INDENT)
    echo()
    problems, advice = report.count(Verdict.PROBLEM), report.count(Verdict.ADVICE)
    if problems:
        echo(f"{problems} problem{'s' * (problems > 1)}: see above.", fg="red", bold=True)
    elif advice:
        echo(f"No problems; {advice} piece{'s' * (advice > 1)} of advice.")
    else:
        echo("No problems.")
    for finding in in_one_line:
        echo(f"{_label(finding):<{_INDENT}}{finding.message}")


def _label(finding: Finding) -> str:
    return f"{finding.verdict.value:<8}{finding.check:<14}"


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
    """Let SIGINT end the process at once. It only reads, so it leaves nothing unfinished.

    Python's own handler would wait until the check that runs has ended, which may take minutes.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _import_tables(name: str) -> list[forebay.Table[Any]]:
    """Import the tables of an option `--tables MODULE[:NAME]`.

    Raises:
        click.UsageError: the module cannot be imported, or has no such table.
    """
    module_name, _, attribute = name.partition(":")
    sys.path.insert(0, "")  # the current folder, as with python -m
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the module is the program's own, and may raise anything
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
        raise click.UsageError(f"--tables {name!r}: expected a forebay.Table, found none")
    return list(dict.fromkeys(tables))
