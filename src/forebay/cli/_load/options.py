"""What to load, and how: the options of the command, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forebay.cli._load.sources import Format

DEFAULT_LINE_LIMIT = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class InputOptions:
    """How the inputs are read.

    Attributes:
        format: their format; None for that of each file's extension.
        encoding: their encoding; None for UTF-8, and for UTF-16 with a byte order mark.
        delimiter: the character between cells; None for that of the format.
        quotechar: the character around cells; empty for none, None for the double quote.
        sniff: whether to detect the delimiter and the quote character.
        has_header: whether the first row has the names of the columns.
        header: the names of the columns of inputs without a header; None for `column1`, and so on.
        pad_short_rows: whether a row with too few cells ends with NULL; otherwise it is malformed.
        flatten: whether the keys of nested JSON objects become columns.
        stop_after: the number of rows after which the reading ends; None for all rows.
        max_line_bytes: the maximum length of a line, and of a row of several lines.
    """

    format: Format | None = None
    encoding: str | None = None
    delimiter: str | None = None
    quotechar: str | None = None
    sniff: bool = False
    has_header: bool = True
    header: Sequence[str] | None = None
    pad_short_rows: bool = False
    flatten: bool = False
    stop_after: int | None = None
    max_line_bytes: int = DEFAULT_LINE_LIMIT

    @property
    def usual_format(self) -> Format | None:
        """The format of an input whose name shows none."""
        return Format.CSV if self.delimiter is not None or self.sniff else None
