"""Advice about an input that is probably not what a person means to load."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from forebay._errors import format_count
from forebay.cli._load.column_names import untitled
from forebay.cli._load.reading import Sample

_DUMPED_NULL = "\\N"
"""How MySQL and PostgreSQL write NULL in the files that they export."""


def find_advice(sample: Sample, nulls: Collection[str]) -> Iterator[str]:
    """Yield messages about an input that is probably not what a person means to load.

    Args:
        sample: the first rows.
        nulls: the texts that mean NULL.
    """
    for chunk in sample.chunks:
        if chunk.header is not None:
            yield from _of_header(chunk.source, chunk.header)
            break
    if _DUMPED_NULL not in nulls:
        yield from _of_dumped_null(sample)
    rows: list[Any] = [row for chunk in sample.chunks for row in chunk.rows[:2]]
    if len(rows) == 1 and sample.ended and isinstance(rows[0], dict):
        yield from _of_object(rows[0])


def _of_header(source: str, header: Sequence[str]) -> Iterator[str]:
    unnamed = [name for place, name in enumerate(header, 1) if name == untitled(place)]
    if len(unnamed) > len(header) / 2:
        yield (
            f"{source}: most columns have no name in the first line; if the header is in a later "
            f"one, such as line 3, run: tail -n +3 FILE | forebay load - ..."
        )


def _of_dumped_null(sample: Sample) -> Iterator[str]:
    for chunk in sample.chunks:
        if chunk.header is not None and any(_DUMPED_NULL in row for row in chunk.rows):
            yield (
                f"{chunk.source}: some cells are {_DUMPED_NULL}, as databases export NULL, and "
                f"are loaded as text; --null '{_DUMPED_NULL}' loads them as NULL"
            )
            return


def _of_object(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield a message if the only object is an envelope around the rows that a person means."""
    for key, value in row.items():
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            yield (
                f"the input is one object, and so one row; its key {key!r} has "
                f"{format_count(len(value), 'object')}; to load these, run: "
                f"jq '.[{json.dumps(key)}]' FILE | forebay load - --format json ..."
            )
            return
    if len(row) > 1 and all(isinstance(value, dict) for value in row.values()):
        yield (
            f"the input is one object, and so one row; each of its {len(row)} values is an object; "
            f"to load these, run: jq '.[]' FILE | forebay load - --format json ..."
        )
