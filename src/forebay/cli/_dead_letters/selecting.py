"""Which letters a command is about, and how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from forebay import dead_letters
from forebay.cli._dead_letters.rendering import format_ids
from forebay.cli._failures import Failed


async def check_ids(reader: dead_letters.DeadLetterReader, ids: Sequence[int]) -> None:
    """Check that each id is that of a letter.

    Raises:
        Failed: some are not.
    """
    found = {letter.id for letter in await dead_letters.fetch(reader, ids=ids)}
    if missing := [letter for letter in ids if letter not in found]:
        raise Failed(f"there is no dead letter {format_ids(missing)}; nothing was changed")


async def count_letters(
    reader: dead_letters.DeadLetterReader, selection: dead_letters.Selection
) -> int:
    """Return the number of the selected letters."""
    return sum(count.count for count in await dead_letters.counts(reader, **selection))


async def counts_of_file(
    database: str, **selection: Unpack[dead_letters.Selection]
) -> list[dead_letters.Count]:
    """Return the counts of the selected letters of a file."""
    async with dead_letters.open_reader(database) as reader:
        return await dead_letters.counts(reader, **selection)


async def count_in_file(database: str, selection: dead_letters.Selection) -> int:
    """Return the number of the selected letters of a file."""
    return sum(count.count for count in await counts_of_file(database, **selection))
