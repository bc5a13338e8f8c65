"""Find the keys of JSON objects that the first rows do not have.

A table gets its columns before its first row. So with --alter the objects are read twice.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Set as AbstractSet

import trio

from forebay.cli._errors import InputError
from forebay.cli._load.column_types import DetectedType, TypeDetector
from forebay.cli._load.detect import is_null, number_of
from forebay.cli._load.readers import Chunk, Reader


async def find_late_keys(
    reader: Reader, known: AbstractSet[str], nulls: Collection[str]
) -> dict[str, DetectedType]:
    """Return the keys of all objects that are not known, and the types of their values.

    The objects before an error of an input count: the load itself will report it. When cancelled,
    this does not wait for the current read.

    Args:
        reader: reads the inputs, from their beginning.
        known: the keys that are known.
        nulls: the texts that mean NULL. A key needs a column only for a value.
    """
    found: dict[str, TypeDetector] = {}

    def read() -> bool:
        try:
            chunk = reader.next_chunk()
        except InputError:
            return False
        if chunk is not None:
            _add_keys(chunk, known, nulls, found)
        return chunk is not None

    while await trio.to_thread.run_sync(read, abandon_on_cancel=True):
        pass
    return {key: detector.detected for key, detector in found.items()}


def _add_keys(
    chunk: Chunk, known: AbstractSet[str], nulls: Collection[str], found: dict[str, TypeDetector]
) -> None:
    for row in chunk.rows if chunk.header is None else ():
        if row.keys() <= known:
            continue
        for key, value in row.items():
            if key not in known and not is_null(value, nulls):
                found.setdefault(key, TypeDetector()).add(number_of(value))
