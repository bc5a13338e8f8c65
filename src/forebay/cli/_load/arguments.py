"""Check the texts of the command's options, and convert them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence

import click

import forebay
from forebay.cli._load.column_names import describe_duplicate
from forebay.cli._load.encodings import is_text_encoding
from forebay.cli._load.report import LIMIT_OPTION

DEFAULT_LIMIT = forebay.BufferOptions().dead_letters_per_minute


def check_utf_8(option: str, texts: Iterable[str]) -> None:
    """Raise a usage error for bytes that are not text, which SQLite cannot store."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise click.UsageError(f"{option} is {text!r}; expected text in UTF-8") from None


def to_limit(limit: str | None, *, skip_malformed: bool) -> int | None:
    """Return how many rows per minute the table may refuse; None for any number."""
    if limit is None:
        return None if skip_malformed else DEFAULT_LIMIT
    if limit == "none":
        return None
    if not (limit.isascii() and limit.isdigit()):
        raise click.UsageError(f"{LIMIT_OPTION} is {limit!r}; expected a number, or none")
    return int(limit)


def to_names(option: str, text: str) -> Sequence[str]:
    """Return the names in a line of CSV, in which a name with a comma can be quoted."""
    if not text.strip():
        raise click.UsageError(f"{option} is empty; name columns, or leave out {option}")
    try:
        names = next(csv.reader([text], strict=True))
    except csv.Error as error:
        problem = f"{option} is {text!r}: {error}; expected column names separated by commas"
        raise click.UsageError(problem) from error
    duplicate = describe_duplicate(names)
    if duplicate is not None:
        raise click.UsageError(f"{option}: {duplicate}")
    return names


def to_character(option: str, text: str | None) -> str | None:
    r"""Return the character that the option names; `\t` is a tab."""
    if text is None:
        return None
    character = "\t" if text in {r"\t", "tab"} else text
    if len(character) != 1 or character in "\r\n\0":
        raise click.UsageError(f"{option} is {text!r}; expected one character, or \\t for a tab")
    return character


def to_encoding(name: str | None) -> str | None:
    """Return the name of an encoding of text."""
    if name is not None and not is_text_encoding(name):
        raise click.UsageError(
            f"--encoding is {name!r}, which is not an encoding that Python knows; expected a name "
            f"such as utf-8, utf-16, cp1252 or shift_jis"
        )
    return name
