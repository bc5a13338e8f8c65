"""Spill files become dead letters, each file once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import forebay
from forebay import BufferOptions, SpillError, Write, dead_letters
from forebay._spill.writing import write_spill
from tests.dead_letters.site import PAGES, VISITS, ids

OTHER = 54_321
"""A user that is neither this one nor the superuser."""


async def test_a_spill_is_imported_once(path: Path, store: forebay.SqliteStore) -> None:
    """Its id decides: a copy of the file adds nothing, even after some of the letters are gone."""
    spill = write_spill(
        path.with_name("spill"),
        {PAGES: [Write(("/", 1))], VISITS: [Write(("/", 5))]},
        reason="late",
    )
    copy = spill.with_name("copy")
    copy.write_bytes(spill.read_bytes())
    first = await dead_letters.import_spill(store, spill)
    letters = await dead_letters.fetch(store, ids=first)
    assert ["pages", "visits"] == [letter.buffer for letter in letters]
    assert {("SPILLED", "late", 0)} == {
        (x.failure.error_code, x.failure.error, x.attempts) for x in letters
    }
    await dead_letters.purge(store, ids=first[:1])
    assert first == await dead_letters.import_spill(store, copy)
    assert [1, 2, 3, 4, first[1]] == await ids(store)
    other = write_spill(path.with_name("other"), {PAGES: [Write(("/", 1))]})
    assert 1 == len(await dead_letters.import_spill(store, other))


async def test_a_large_spill_keeps_its_order(path: Path, store: forebay.SqliteStore) -> None:
    """Its letters have ids without gaps, in the order of the file."""
    spilled = [Write(("/", i)) for i in range(257)]
    spill = write_spill(path.with_name("spill"), {VISITS: spilled})
    letters = await dead_letters.import_spill(store, spill)
    assert range(5, 5 + 257) == letters
    assert spilled == [
        letter.decode()[1] for letter in await dead_letters.fetch(store, ids=letters)
    ]


async def test_a_large_spill_can_be_replayed(path: Path, store: forebay.SqliteStore) -> None:
    """Its entries may be more than the dead letters that a buffer writes in a minute."""
    limit = BufferOptions().dead_letters_per_minute
    assert limit is not None
    spilled = {VISITS: [Write(("/nowhere", i)) for i in range(limit + 1)]}
    await dead_letters.import_spill(store, write_spill(path.with_name("spill"), spilled))
    result = await dead_letters.replay(store, error_code="SPILLED")
    assert limit + 1 == len(result.refused)


async def test_an_empty_spill_can_be_imported(path: Path, store: forebay.SqliteStore) -> None:
    """It has no letters, the second time neither."""
    spill = write_spill(path.with_name("spill"), {PAGES: []})
    for _ in range(2):
        assert [] == list(await dead_letters.import_spill(store, spill))


async def test_a_damaged_spill_is_not_imported(path: Path, store: forebay.SqliteStore) -> None:
    """Not even the lines before the damage."""
    spill = write_spill(path.with_name("spill"), {VISITS: [Write(("/", 5)), Write(("/", 6))]})
    spill.write_text(spill.read_text()[:-10])
    with pytest.raises(forebay.SpillError, match="line 4"):
        await dead_letters.import_spill(store, spill)
    assert [1, 2, 3, 4] == await ids(store)


async def test_the_whole_lines_of_a_spill_that_was_cut_off_can_be_imported(
    path: Path, store: forebay.SqliteStore
) -> None:
    """Once, and never together with the whole file, which would repeat them."""
    whole = write_spill(path.with_name("spill"), {VISITS: [Write(("/", 5)), Write(("/", 6))]})
    part = path.with_name("spill.part")
    part.write_text(whole.read_text()[:-10])
    letters = await dead_letters.import_spill(store, part, incomplete=True)
    [letter] = await dead_letters.fetch(store, ids=letters)
    assert (VISITS.name, Write(("/", 5))) == (letter.buffer, letter.decode()[1])
    assert letters == await dead_letters.import_spill(store, part, incomplete=True)
    for incomplete in (False, True):
        with pytest.raises(forebay.SpillError, match="only the first 1 of 2 entries"):
            await dead_letters.import_spill(store, whole, incomplete=incomplete)
    assert [1, 2, 3, 4, letter.id] == await ids(store)


async def test_a_part_of_an_imported_spill_adds_nothing(
    path: Path, store: forebay.SqliteStore
) -> None:
    """The part may be an incomplete copy."""
    whole = write_spill(path.with_name("spill"), {VISITS: [Write(("/", 5)), Write(("/", 6))]})
    part = path.with_name("copy")
    part.write_text(whole.read_text()[:-10])
    letters = await dead_letters.import_spill(store, whole)
    assert letters == await dead_letters.import_spill(store, part, incomplete=True)


@pytest.mark.root
async def test_a_spill_of_another_user_is_refused(path: Path, store: forebay.SqliteStore) -> None:
    """But not one of the owner of the database, who may write to the database anyway."""
    before = await ids(store)
    spill = write_spill(path.with_name("spill"), {PAGES: [Write(("/", 1))]})
    os.chown(spill, OTHER, OTHER)
    with pytest.raises(SpillError, match=rf"'{spill}' belongs to user {OTHER}"):
        await dead_letters.import_spill(store, spill)
    assert before == await ids(store)
    os.chown(path, OTHER, OTHER)
    assert 1 == len(await dead_letters.import_spill(store, spill))


async def test_a_symbolic_link_to_a_spill_is_refused(
    path: Path, store: forebay.SqliteStore
) -> None:
    """Its target may change after somebody has looked at it."""
    spill = write_spill(path.with_name("spill"), {PAGES: [Write(("/", 1))]})
    link = path.with_name("link")
    link.symlink_to(spill)
    with pytest.raises(SpillError, match=rf"'{link}' is a symbolic link"):
        await dead_letters.import_spill(store, link)
