"""The rows that are not loaded: how many, the first of them, and a file with all of them."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from forebay.cli._errors import InputRowError
from forebay.cli._load.progress import Display

SHOWN_ROWS = 10
"""How many of the rows are shown."""


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that is not loaded.

    Attributes:
        source: the input's name.
        line: the line in which it starts.
        reason: why it is not loaded.
        text: the row as it is written in the input.
    """

    source: str
    line: int
    reason: str
    text: str

    def __str__(self) -> str:
        return f"{self.source}, line {self.line}: {self.reason}"


class RejectedRows:
    """Counts the rows that are not loaded, shows the first of them, and writes all to a file.

    Args:
        display: shows the rows.
        allowed: whether rows may be skipped. Otherwise the first one is an error.
        file: receives a line of JSON for each row; None for no file.

    Attributes:
        count: the number of rows that were skipped. The buffer counts those that the table refused.
        first: the first rows.
    """

    def __init__(self, display: Display, *, allowed: bool, file: IO[str] | None = None) -> None:
        self.count = 0
        self.allowed = allowed
        self.first: list[Reject] = []
        self._display = display
        self._file = file
        self._shown_refused = 0

    def add(self, error: InputRowError) -> None:
        """Count a row that is skipped.

        Raises:
            InputRowError: no row may be skipped.
        """
        if not self.allowed:
            raise error
        self._record(Reject(error.source, error.line, error.problem, error.text))
        self.count += 1
        if self.count <= SHOWN_ROWS:
            self._display.warn(f"{error}; skipped")
        elif self.count == SHOWN_ROWS + 1:
            self._display.warn(
                "further rows are skipped without a message; the summary has the count"
            )

    def add_refused(self, refused: Iterable[Reject]) -> None:
        """Record rows that the table refused."""
        for reject in refused:
            self._record(reject)
            self._shown_refused += 1
            if self._shown_refused <= SHOWN_ROWS:
                self._display.warn(str(reject))

    def _record(self, reject: Reject) -> None:
        if len(self.first) < SHOWN_ROWS:
            self.first.append(reject)
        if self._file is not None:
            self._file.write(json.dumps(asdict(reject), ensure_ascii=False) + "\n")


@contextmanager
def open_rejects(path: str | None) -> Generator[IO[str] | None]:
    """Open the file for the rows that are not loaded, for the length of a `with` block.

    Args:
        path: the file; an existing one is replaced. None for no file.

    Raises:
        OSError: the file cannot be written.
    """
    if path is None:
        yield None
        return
    with Path(path).open("w", encoding="utf-8", errors="backslashreplace") as file:
        yield file
