"""Tells the columns of a table, and what each one holds, by a sample of its rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from forebay._table.sqlite_rules import INT64
from forebay.cli._load.column_types import JsonType, Kind, kind_of, number_of
from forebay.cli._load.readers import Chunk


def detect(chunks: Sequence[Chunk], nulls: Collection[str], *, types: bool) -> dict[str, Kind]:
    """The columns of the table, and what each one holds.

    The columns are those of the first input's header, in its order; without one, all keys of the
    objects, in the order they first come in.

    Args:
        chunks: a sample of the rows, raw; at least one chunk.
        nulls: the texts that stand for NULL; they say nothing about a column.
        types: whether texts are looked into; else a column of texts is TEXT, whatever they say.
    """
    header = chunks[0].header
    numbers: dict[str, set[int | float | None]] = {column: set() for column in header or ()}
    for chunk in chunks:
        for column, number in _numbers_in(chunk, nulls, types=types):
            if column in numbers or header is None:
                numbers.setdefault(column, set()).update(number)
    return {column: kind_of(seen) for column, seen in numbers.items()}


def json_types(chunks: Sequence[Chunk], nulls: Collection[str]) -> dict[str, JsonType]:
    """The types that the columns' values have in JSON, by a sample of the rows, raw.

    Where a column has values of several types, the first that there is of: text, number, boolean.
    A column of CSV has none.
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
    """For each column of a chunk the numbers in it, and None if anything else is."""
    if chunk.header is not None:
        for place, column in enumerate(chunk.header):
            texts = {row[place] for row in chunk.rows}.difference(nulls, [""])
            yield column, set(map(number_of, texts)) if types else {None}
        return
    for row in chunk.rows:
        for column, value in row.items():
            silent = value is None or (isinstance(value, str) and value in nulls)
            yield column, set() if silent else {_number_of_value(value)}


def _number_of_value(value: Any) -> int | float | None:
    """The number that a JSON value is, or None."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value if value in INT64 else None
    return value if isinstance(value, float) else None
