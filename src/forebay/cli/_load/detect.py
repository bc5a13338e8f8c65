"""Detect the columns of a table and their types from a sample of rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

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
    cells: dict[str, set[str]] = {}
    values: dict[str, list[Any]] = {column: [] for column in chunks[0].header or ()}
    for chunk in chunks:
        if chunk.header is None:
            for row in chunk.rows:
                for column, value in row.items():
                    values.setdefault(column, []).append(value)
            continue
        for place, column in enumerate(chunk.header):
            values.setdefault(column, [])
            cells.setdefault(column, set()).update(row[place] for row in chunk.rows)
    found: dict[str, DetectedType] = {}
    for column in values if chunks[0].header is None else chunks[0].header:
        detector = TypeDetector()
        _add_cells(detector, cells.get(column, set()).difference(nulls, [""]), types=types)
        _add_values(detector, values[column], nulls)
        found[column] = detector.detected
    return found


def _add_cells(detector: TypeDetector, cells: Iterable[str], *, types: bool) -> None:
    for text in cells:
        if detector.is_text:
            return
        detector.add(exact_number(text) if types else None)


def _add_values(detector: TypeDetector, values: Collection[Any], nulls: Collection[str]) -> None:
    """Add JSON values. Equal ones of one type are added once: 1, 1.0 and true are equal, too."""
    for _, value in {(type(value), value) for value in values if type(value) in _PLAIN_TYPES}:
        if detector.is_text:
            return
        if value not in nulls:
            detector.add(number_of(value))
    for value in values:
        if value is not None and type(value) not in _PLAIN_TYPES:
            detector.add(number_of(value))


_PLAIN_TYPES = {bool, int, float, str}


def json_types(
    chunks: Sequence[Chunk], nulls: Collection[str], columns: Collection[str]
) -> dict[str, JsonType]:
    """Return the JSON types of some columns' values in a sample of raw rows.

    For a column with several types it is the first of text, number and boolean. A column of CSV
    has none.
    """
    seen: dict[str, set[JsonType]] = {}
    for chunk in chunks:
        for row in chunk.rows if chunk.header is None else ():
            for column in columns:
                value = row.get(column)
                if not is_null(value, nulls):
                    seen.setdefault(column, set()).add(JsonType.of(value))
    return {column: next(t for t in JsonType if t in types) for column, types in seen.items()}


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
