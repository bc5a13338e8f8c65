"""`python -m benchmarks`: run questions, compare two runs, plot one run."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import harness, pythons, report
from benchmarks.facts import facts
from benchmarks.page import write_page
from benchmarks.questions import MAIN, QUESTIONS
from benchmarks.results import CaseResult, Results


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True)

    run = commands.add_parser("run", help="run questions and print what they measured")
    run.set_defaults(command=_run)
    run.add_argument(
        "questions",
        nargs="*",
        choices=[*QUESTIONS, []],
        metavar="QUESTION",
        help="default: the main ones",
    )
    run.add_argument(
        "--full", action="store_true", help="all questions in all sizes; takes an hour or two"
    )
    run.add_argument("--case", help="run only the cases with this name")
    run.add_argument(
        "--contestant", action="append", help="run only the contestants with this name"
    )
    run.add_argument(
        "--path",
        type=Path,
        default=Path(tempfile.gettempdir()),
        help="the folder for database files; default: the temporary folder",
    )
    run.add_argument("--json", type=Path, help="write the results to this file")

    compare = commands.add_parser("compare", help="compare the results of two runs")
    compare.set_defaults(command=_compare)
    compare.add_argument("old", type=Path)
    compare.add_argument("new", type=Path)

    versions = commands.add_parser(
        "pythons", help="run questions with several interpreters in turn, and compare them"
    )
    versions.set_defaults(command=_pythons)
    versions.add_argument("questions", nargs="*", choices=[*QUESTIONS, []], metavar="QUESTION")
    versions.add_argument(
        "--interpreter", type=Path, action="append", required=True, help="give this twice or more"
    )
    versions.add_argument("--rounds", type=int, default=3, help="turns of each interpreter")
    versions.add_argument("--path", type=Path, default=Path(tempfile.gettempdir()))

    plot = commands.add_parser(
        "plot", help="write a plot as PNG and SVG, and a page of all figures"
    )
    plot.set_defaults(command=_plot)
    plot.add_argument("results", type=Path)
    plot.add_argument("target", type=Path, help="the files to write, without their suffix")

    options = parser.parse_args(arguments)
    options.command(options)


def _run(options: argparse.Namespace) -> None:
    console = Console()
    done: list[CaseResult] = []
    results = Results(facts(options.path), done)
    report.show_facts(console, results)
    with console.status("") as status:
        for question in options.questions or (QUESTIONS if options.full else MAIN):
            for case in QUESTIONS[question](options.full):
                selected = harness.select(case, options.case, options.contestant)
                if selected is None:
                    continue
                done.append(harness.run(selected, options.path, status.update))
                report.show_case(console, done[-1])
                if options.json is not None:
                    results.save(options.json)
    report.show_claims(console, results)


def _compare(options: argparse.Namespace) -> None:
    report.show_comparison(Console(), Results.load(options.old), Results.load(options.new))


def _pythons(options: argparse.Namespace) -> None:
    questions = options.questions or pythons.QUESTIONS
    pythons.compare(options.interpreter, questions, options.rounds, options.path)


def _plot(options: argparse.Namespace) -> None:
    from benchmarks.plot import plot  # noqa: PLC0415  # only this command needs matplotlib

    results = Results.load(options.results)
    plot(results, options.target)
    write_page(results, options.target.with_suffix(".md"))


if __name__ == "__main__":
    main()
