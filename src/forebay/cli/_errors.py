"""Why an input cannot be loaded, in words for the person who has it."""

from __future__ import annotations

from forebay._portable import Portable


class LoadError(Portable, Exception):
    """The load cannot begin, or cannot go on."""


class InputError(LoadError):
    """An input cannot be read, or only in part.

    Attributes:
        source: the input's name, as messages show it.
        problem: what is wrong, and what was expected.
        line: the number of the line, counted from 1; None if the problem is not in one line.
    """

    def __init__(self, source: str, problem: str, *, line: int | None = None) -> None:
        place = source if line is None else f"{source}, line {line}"
        super().__init__(f"{place}: {problem}")
        self.source = source
        self.problem = problem
        self.line = line


class InputRowError(InputError):
    """One row is malformed or does not fit the table; the rows around it can be loaded.

    Attributes:
        line: the line in which the row starts.
        text: the row as it is written in the input.
    """

    def __init__(self, source: str, problem: str, *, line: int, text: str = "") -> None:
        super().__init__(source, problem, line=line)
        self.line: int = line
        self.text = text
