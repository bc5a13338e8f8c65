"""Detect the columns of a table and their types from a sample of rows."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal

from forebay._table.sqlite_rules import INT64
from forebay.cli._load.column_types import (
    ALL_SPELLINGS,
    DetectedType,
    JsonType,
    Number,
    RoundedFloat,
    TypeDetector,
    exact_number,
)
from forebay.cli._load.readers import Chunk


class _Null(enum.Enum):
    NULL = enum.auto()


NULL = _Null.NULL


def detect(
    chunks: Sequence[Chunk], nulls: Collection[str], *, types: bool
) -> dict[str, DetectedType]:
    """Return the columns of the table and their types.

    The columns are those of the first input's header, or the keys of all objects, in the order in
    which they first appear.

    Args:
        chunks: the sample, raw; at least one chunk.
        nulls: the texts that mean NULL; they are ignored.
        types: whether to detect numbers in texts. Otherwise a column of texts is TEXT.
    """
    header = chunks[0].header
    detectors = {column: TypeDetector() for column in header or ()}
    for chunk in chunks:
        for column, number in _numbers_in(chunk, nulls, types=types):
            if header is None and column not in detectors:
                detectors[column] = TypeDetector()
            if column in detectors and number is not NULL:
                detectors[column].add(number)
    return {column: detector.detected for column, detector in detectors.items()}


def json_types(chunks: Sequence[Chunk], nulls: Collection[str]) -> dict[str, JsonType]:
    """Return the JSON types of the columns' values in a sample of raw rows.

    For a column with several types it is the first of text, number and boolean. A column of CSV
    has none.
    """
    seen: dict[str, set[JsonType]] = {}
    for chunk in chunks:
        for row in chunk.rows if chunk.header is None else ():
            for column, value in row.items():
                if not is_null(value, nulls):
                    seen.setdefault(column, set()).add(JsonType.of(value))
    return {column: next(t for t in JsonType if t in types) for column, types in seen.items()}


def _numbers_in(
    chunk: Chunk, nulls: Collection[str], *, types: bool
) -> Iterator[tuple[str, Number | Literal[_Null.NULL] | None]]:
    """Yield the values of a chunk, each with its column.

    Yields:
        A number, None for a value that is not a number, or NULL, which has no type.
    """
    if chunk.header is None:
        for row in chunk.rows:
            for column, value in row.items():
                yield column, NULL if is_null(value, nulls) else number_of(value)
        return
    for place, column in enumerate(chunk.header):
        for text in {row[place] for row in chunk.rows}.difference(nulls, [""]):
            yield column, exact_number(text) if types else None


def is_null(value: object, nulls: Collection[str]) -> bool:
    """Return whether a JSON value is null, or a text that means NULL."""
    return value is None or (isinstance(value, str) and value in nulls)


def number_of(value: Any) -> Number | None:
    """Return the number that a JSON value stands for, or None."""
    if isinstance(value, bool):
        return Number(int(value), ALL_SPELLINGS)
    if isinstance(value, int) and value in INT64:
        return Number(value, ALL_SPELLINGS if value == float(value) else 0)
    if isinstance(value, float) and not isinstance(value, RoundedFloat):
        return Number(value, ALL_SPELLINGS)
    return None
