"""Advice about an input that is probably not what a person means to load."""

from __future__ import annotations

import json
from typing import Any

from forebay._errors import format_count
from forebay.cli._load.reading import Sample


def describe_wrapped_rows(sample: Sample) -> str | None:
    """Return a message if the input is one object around the rows that a person means, or None.

    Args:
        sample: the first rows.
    """
    rows: list[Any] = [row for chunk in sample.chunks for row in chunk.rows]
    if len(rows) != 1 or not sample.ended or not isinstance(rows[0], dict):
        return None
    for key, value in rows[0].items():
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            return (
                f"the input is one object, and so one row; its key {key!r} has "
                f"{format_count(len(value), 'object')}; to load these, run: "
                f"jq '.[{json.dumps(key)}]' FILE | forebay load - --format json ..."
            )
    return None
