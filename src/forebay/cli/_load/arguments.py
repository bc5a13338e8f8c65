"""Check the values of the command's options, and make a request of them."""

from __future__ import annotations

import csv
import inspect
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

import forebay
from forebay.cli._load.column_names import describe_duplicate
from forebay.cli._load.encodings import is_text_encoding
from forebay.cli._load.options import InputOptions, LoadRequest, TableOptions
from forebay.cli._load.report import LIMIT_OPTION
from forebay.cli._load.sources import STANDARD_INPUT, Format
from forebay.stores.sqlite._inspector import BESIDE

MERGES = {"replace": forebay.Replace, "keep": forebay.Keep}
TYPES = ["INTEGER", "REAL", "FLOAT", "TEXT"]
_SAME_TYPES = {"FLOAT": "REAL"}
"""The types that have the name of `sqlite-utils` too."""
DEFAULT_BATCH_SIZE = 5_000
"""Less than a buffer's: so few rows are still in the processor's cache when they are written, which
took 14 % less time."""
_CAPACITY = 4 * DEFAULT_BATCH_SIZE
DEFAULT_LIMIT = forebay.BufferOptions().dead_letters_per_minute


def to_request(
    *,
    files: tuple[str, ...],
    database: str,
    nulls: tuple[str, ...],
    no_detect_types: bool,
    keep_misfits: bool,
    batch_size: int,
    flush_interval: float,
    skip_malformed: bool,
    limit: str | None,
    rejects: str | None,
    dry_run: bool,
    strict: bool,
    **options: Any,
) -> LoadRequest:
    """Return the request that the command's options describe.

    Raises:
        click.UsageError: an option has a wrong value, or two options contradict each other.
    """
    if database in {"", ":memory:"}:
        raise click.UsageError(f"--database is {database!r}; expected the path of a file")
    if files.count(STANDARD_INPUT) > 1:
        raise click.UsageError("standard input (-) is named twice; it can be read only once")
    if strict and keep_misfits:
        raise click.UsageError(
            "--strict creates a table that refuses what --keep-misfits stores; leave out one"
        )
    _check_utf_8("--null", nulls)
    if rejects is not None:
        _check_rejects(rejects, files, database)
    skips = skip_malformed or rejects is not None
    try:
        buffer_options = forebay.BufferOptions(
            batch_size=batch_size,
            capacity=max(_CAPACITY, 2 * batch_size),
            flush_interval=flush_interval,
            dead_letters_per_minute=_to_limit(limit, skip_malformed=skips),
        )
    except forebay.OptionsError as error:
        raise click.UsageError(str(error)) from error
    of_input = {name: options.pop(name) for name in _INPUT_OPTIONS}
    return LoadRequest(
        files=files,
        input=_to_input(**of_input),
        database=database,
        table=_to_table(strict=strict, **options),
        nulls=frozenset(nulls),
        detect_types=not no_detect_types,
        keep_misfits=keep_misfits,
        skip_malformed=skips,
        rejects=rejects,
        dry_run=dry_run,
        options=buffer_options,
    )


def _to_input(
    *,
    format_name: str | None,
    encoding: str | None,
    delimiter: str | None,
    quotechar: str | None,
    sniff: bool,
    no_headers: bool,
    header: str | None,
    short_rows: str,
    flatten: bool,
    stop_after: int | None,
    max_line_bytes: int,
) -> InputOptions:
    _check_utf_8("--header", [header or ""])
    return InputOptions(
        format=None if format_name is None else Format(format_name),
        encoding=_to_encoding(encoding),
        delimiter=_to_character("--delimiter", delimiter),
        quotechar=quotechar if quotechar == "" else _to_character("--quotechar", quotechar),
        sniff=sniff,
        has_header=not no_headers and header is None,
        header=None if header is None else _to_names("--header", header),
        pad_short_rows=short_rows == "pad",
        flatten=flatten,
        stop_after=stop_after,
        max_line_bytes=max_line_bytes,
    )


_INPUT_OPTIONS = tuple(inspect.signature(_to_input).parameters)


def _to_table(
    *,
    table: str,
    key: str | None,
    merge: str | None,
    types: tuple[tuple[str, str], ...],
    not_null: tuple[str, ...],
    defaults: tuple[tuple[str, str], ...],
    indexes: tuple[str, ...],
    strict: bool,
    alter: bool,
    truncate: bool,
) -> TableOptions:
    if merge is not None and key is None:
        raise click.UsageError("--merge needs --key; name the key's columns, or leave out --merge")
    _check_utf_8("--table", [table])
    _check_utf_8("--key", [key or ""])
    _check_utf_8("--type", [column for column, _ in types])
    _check_utf_8("--not-null", not_null)
    _check_utf_8("--default", [text for pair in defaults for text in pair])
    _check_utf_8("--index", indexes)
    return TableOptions(
        name=table,
        key=() if key is None else _to_names("--key", key),
        merge=MERGES[merge or "replace"],
        types={column: _SAME_TYPES.get(name, name) for column, name in types},
        not_null=not_null,
        defaults=dict(defaults),
        indexes=[_to_names("--index", index) for index in indexes],
        strict=strict,
        alter=alter,
        truncate=truncate,
    )


def _check_rejects(path: str, files: Iterable[str], database: str) -> None:
    """Raise a usage error if the file for rejected rows is one that the load needs."""
    own = [os.path.realpath(database) + suffix for suffix in ("", *BESIDE)]
    for other in [*files, *own]:
        if _are_same(path, other):
            raise click.UsageError(
                f"--rejects names {path!r}, which is an input or a file of the database, and which "
                f"would be replaced; name another file"
            )


def _are_same(path: str, other: str) -> bool:
    """Return whether two paths are, or would be, the same file."""
    try:
        return Path(path).samefile(other)
    except OSError:  # one of them does not exist yet
        pass
    return other != STANDARD_INPUT and os.path.realpath(path) == os.path.realpath(other)


def _check_utf_8(option: str, texts: Iterable[str]) -> None:
    """Raise a usage error for bytes that are not text, which SQLite cannot store."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise click.UsageError(f"{option} is {text!r}; expected text in UTF-8") from None


def _to_limit(limit: str | None, *, skip_malformed: bool) -> int | None:
    """Return how many rows per minute the table may refuse; None for any number."""
    if limit is None:
        return None if skip_malformed else DEFAULT_LIMIT
    if limit == "none":
        return None
    if not (limit.isascii() and limit.isdigit()):
        raise click.UsageError(f"{LIMIT_OPTION} is {limit!r}; expected a number, or none")
    return int(limit)


def _to_names(option: str, text: str) -> Sequence[str]:
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


def _to_character(option: str, text: str | None) -> str | None:
    r"""Return the character that the option names; `\t` is a tab."""
    if text is None:
        return None
    character = "\t" if text in {r"\t", "tab"} else text
    if len(character) != 1 or character in "\r\n\0":
        raise click.UsageError(f"{option} is {text!r}; expected one character, or \\t for a tab")
    return character


def _to_encoding(name: str | None) -> str | None:
    """Return the name of an encoding of text."""
    if name is not None and not is_text_encoding(name):
        raise click.UsageError(
            f"--encoding is {name!r}, which is not an encoding that Python knows; expected a name "
            f"such as utf-8, utf-16, cp1252 or shift_jis"
        )
    return name
