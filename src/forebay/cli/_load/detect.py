"""Detect the columns of a table and their types from a sample of rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from forebay._table.sqlite_rules import INT64
from forebay.cli._load.column_types import JsonType, Kind, kind_of, number_of
from forebay.cli._load.readers import Chunk


def detect(chunks: Sequence[Chunk], nulls: Collection[str], *, types: bool) -> dict[str, Kind]:
    """Return the columns of the table and their types.

    The columns are those of the first input's header, or the keys of all objects, in the order in
    which they first appear.

    Args:
        chunks: the sample, raw; at least one chunk.
        nulls: the texts that mean NULL; they do not count.
        types: whether to detect numbers in texts. Otherwise a column of texts is TEXT.
    """
    header = chunks[0].header
    numbers: dict[str, set[int | float | None]] = {column: set() for column in header or ()}
    for chunk in chunks:
        for column, number in _numbers_in(chunk, nulls, types=types):
            if column in numbers or header is None:
                numbers.setdefault(column, set()).update(number)
    return {column: kind_of(seen) for column, seen in numbers.items()}


def json_types(chunks: Sequence[Chunk], nulls: Collection[str]) -> dict[str, JsonType]:
    """Return the JSON types of the columns' values in a sample of raw rows.

    For a column with several types it is the first of text, number and boolean. A column of CSV
    has none.
    """
    seen: dict[str, set[JsonType]] = {}
    for chunk in chunks:
        for row in chunk.rows if chunk.header is None else ():
            for column, value in row.items():
                if value is not None and not (isinstance(value, str) and value in nulls):
                    seen.setdefault(column, set()).add(JsonType.of(value))
    return {column: next(t for t in JsonType if t in types) for column, types in seen.items()}


def _numbers_in(
    chunk: Chunk, nulls: Collection[str], *, types: bool
) -> Iterator[tuple[str, set[int | float | None]]]:
    """Yield each column of a chunk with its numbers, and None if it has another value."""
    if chunk.header is not None:
        for place, column in enumerate(chunk.header):
            texts = {row[place] for row in chunk.rows}.difference(nulls, [""])
            yield column, set(map(number_of, texts)) if types else {None}
        return
    for row in chunk.rows:
        for column, value in row.items():
            is_null = value is None or (isinstance(value, str) and value in nulls)
            yield column, set() if is_null else {_number_of_value(value)}


def _number_of_value(value: Any) -> int | float | None:
    """Return the number that a JSON value stands for, or None."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value if value in INT64 else None
    return value if isinstance(value, float) else None
