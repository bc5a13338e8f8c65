"""What can be wrong with an input, in words for the person who has it."""

from __future__ import annotations


class LoadError(Exception):
    """What keeps a load from beginning, or from going on."""


class InputError(LoadError):
    """An input that cannot be read, or not to its end.

    Attributes:
        source: the input's name, as messages show it.
        problem: what is wrong, and what was expected.
        line: the number of the line it was found in, counted from 1; None where it has none.
    """

    def __init__(self, source: str, problem: str, *, line: int | None = None) -> None:
        place = source if line is None else f"{source}, line {line}"
        super().__init__(f"{place}: {problem}")
        self.source = source
        self.problem = problem
        self.line = line


class InputRowError(InputError):
    """One row that cannot be taken; the rows around it can.

    A row is named by the line it starts in.
    """

    def __init__(self, source: str, problem: str, *, line: int) -> None:
        super().__init__(source, problem, line=line)
        self.line: int = line
