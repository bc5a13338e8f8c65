"""docs/log.md lists each log record with its logger, its level and its text."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.test_layers import MODULES

PAGE = Path(__file__).parents[1] / "docs" / "log.md"

LEVELS = {
    "debug": "DEBUG",
    "info": "INFO",
    "warning": "WARNING",
    "error": "ERROR",
    "exception": "ERROR",
    "critical": "CRITICAL",
}

Record = tuple[str, str, str]
"""A logger, a level, and a text with `…` for each value."""


def loggers(module: str, tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield the names of the loggers of a module: that of the variable, that of the logger."""
    for node in ast.walk(tree):
        match node:
            case ast.Assign(
                [ast.Name(name)], ast.Call(ast.Attribute(attr="getLogger"), [argument])
            ):
                yield name, str(argument.value) if isinstance(argument, ast.Constant) else module
            case _:
                pass


def records(module: str) -> Iterator[Record]:
    """Yield the records that a module writes, whose texts must be literals."""
    tree = ast.parse(MODULES[module].read_text())
    names = dict(loggers(module, tree))
    for node in ast.walk(tree):
        match node:
            case ast.Call(ast.Attribute(ast.Name(), "addHandler")):
                pass
            case ast.Call(ast.Attribute(ast.Name(name), level), args) if name in names:
                text = ast.literal_eval(args[0])
                yield names[name], LEVELS[level], re.sub(r"%[.\d]*[a-z]", "…", text)
            case _:
                pass


def listed() -> Iterator[Record]:
    """Yield the records in the tables of the page. The heading of a table names the logger."""
    logger = ""
    for line in PAGE.read_text().splitlines():
        if heading := re.fullmatch(r"## .+: `(forebay[\w.]*)`", line):
            logger = heading[1]
        elif row := re.fullmatch(r"\| ([A-Z]+) \| (.+?) \| .+ \|", line):
            yield logger, row[1], row[2]


def test_the_page_lists_each_record() -> None:
    """No record is missing, and none is listed that the code does not write."""
    assert sorted({record for module in MODULES for record in records(module)}) == sorted(listed())


def test_each_module_has_its_logger_in_a_variable() -> None:
    """Otherwise the test above would not see its records."""
    using = {name for name, path in MODULES.items() if "logging" in path.read_text()}
    calls = re.compile(
        r"logging\.(?!getLogger\()[a-z]|from logging|import logging as|getLogger\(.*\)\."
    )
    assert using
    for module in using:
        assert [] == calls.findall(MODULES[module].read_text())
