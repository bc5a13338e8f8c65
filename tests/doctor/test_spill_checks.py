"""Checks of spill files: whether their entries are in the database."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from forebay import Write, dead_letters, open_sqlite
from forebay._database import Database
from forebay._spill.writing import write_spill
from forebay.doctor import Verdict, examine
from tests.doctor.site import HITS, found, problem


@pytest.fixture
def spill(path: Path) -> Path:
    return write_spill(
        path.with_name("site.db-spill.jsonl"),
        {HITS: [Write(("/a", 1)), Write(("/b", 2))]},
        reason="the disk was full",
    )


async def test_a_spill_beside_the_file_is_found(path: Path, spill: Path) -> None:
    """With its entries, and the reason why it was written."""
    finding = await problem(path, "spills")
    assert {
        "path": str(spill),
        "entries": 2,
        "imported": False,
        "reason": "the disk was full",
    } == finding.values


async def test_a_spill_elsewhere_can_be_named(path: Path, spill: Path) -> None:
    """It may have any name. One that is beside the file too is checked once."""
    elsewhere = path.parent.parent / "left.txt"
    shutil.copy(spill, elsewhere)
    findings = await found(path, "spills", spills=[elsewhere, spill])
    assert [str(elsewhere), str(spill)] == [finding.values["path"] for finding in findings]


async def test_a_spill_of_another_database_is_listed_and_not_a_problem(
    path: Path, spill: Path
) -> None:
    """A replay would write its rows into the wrong database."""
    other = path.with_name("other.db")
    shutil.copy(path, other)
    async with open_sqlite(path) as store:
        mine = await store.identify()
    async with open_sqlite(other) as store:
        database = await store.identify()
    spill.unlink()
    named = write_spill(spill, {HITS: [Write(("/a", 1))]}, database=database)
    [finding] = await found(path, "spills")
    assert Verdict.OK is finding.verdict
    assert f"belongs to another database: {database}" in finding.message
    assert {"path": str(named), "database": str(other)} == finding.values
    moved = other.rename(path.parent.parent / "moved.db")
    await problem(moved, "spills", spills=[spill])
    spill.unlink()
    write_spill(spill, {HITS: [Write(("/a", 1))]}, database=mine)
    assert "it does not say" not in (await problem(path, "spills")).message


async def test_a_damaged_spill_of_another_database_is_not_a_problem_here(
    path: Path, spill: Path
) -> None:
    """Its first line names the database, even if the rest is damaged or incomplete."""
    part = spill.with_name("site.db-spill.jsonl.part")
    spill.unlink()
    write_spill(spill, {HITS: [Write(("/a", 1))]}, database=Database("/srv/other.db", None))
    part.write_text(spill.read_text().splitlines()[0])
    spill.write_text(spill.read_text() + "{")
    assert [Verdict.OK] * 2 == [f.verdict for f in await found(path, "spills")]


async def test_a_spill_that_names_no_database_is_a_problem(path: Path, spill: Path) -> None:
    """Early versions wrote such spills. A person must know where they belong."""
    assert (
        "if they belong to this database, which it does not say"
        in (await problem(path, "spills")).message
    )


async def test_an_imported_spill_can_be_removed(path: Path, spill: Path) -> None:
    """It is advice, whether its entries were replayed or not."""
    async with open_sqlite(path) as store:
        await dead_letters.replay(store, ids=await dead_letters.import_spill(store, spill))
    report = await examine(path)
    assert report.healthy
    [finding] = [f for f in report.findings if f.check == "spills"]
    assert Verdict.ADVICE is finding.verdict
    assert "remove the file" in finding.message


async def test_an_incomplete_spill_has_complete_lines(path: Path, spill: Path) -> None:
    """The finding has their number, and how to import them. After that it is advice."""
    part = spill.with_name("site.db-spill.jsonl.part")
    part.write_text(spill.read_text()[:-3])
    spill.unlink()
    finding = await problem(path, "spills")
    assert {"path": str(part), "entries": 1, "imported": False} == finding.values
    assert "It has 1 entry in complete lines" in finding.message
    assert "--spill FILE --incomplete" in finding.message
    async with open_sqlite(path) as store:
        await dead_letters.replay(
            store, ids=await dead_letters.import_spill(store, part, incomplete=True)
        )
    [finding] = await found(path, "spills")
    assert Verdict.ADVICE is finding.verdict
    assert "remove the file" in finding.message


async def test_a_spill_of_which_only_a_part_was_imported_is_a_problem(
    path: Path, spill: Path
) -> None:
    """Its other entries are in no table."""
    part = spill.with_name("site.db-spill.jsonl.part")
    part.write_text(spill.read_text()[:-3])
    async with open_sqlite(path) as store:
        await dead_letters.replay(
            store, ids=await dead_letters.import_spill(store, part, incomplete=True)
        )
    part.unlink()
    assert "only the first 1 were imported" in (await problem(path, "spills")).message


async def test_a_spill_beside_a_missing_database_is_found(path: Path, spill: Path) -> None:
    """It may have the only copy of its entries."""
    path.unlink()
    assert [Verdict.PROBLEM] == [f.verdict for f in await found(path, "spills")]


@pytest.mark.parametrize(
    ("name", "contents", "expected"),
    [
        ("a-spill", b'{"forebay_spill": 1, "id"', "line 1"),
        ("a-spill.part", b'{"forebay_spill": 1, "id"', "is incomplete"),
        ("notes-on-spills.txt", b"wash the floor", None),
        ("spill.db-wal", b'{"forebay_spill": 1, "id"', None),
    ],
)
async def test_files_that_may_be_spills_are_checked(
    path: Path, name: str, contents: bytes, expected: str | None
) -> None:
    """A damaged spill is a problem; files of another kind are not opened, or not listed."""
    path.with_name(name).write_bytes(contents)
    if expected is None:
        assert (await examine(path)).healthy
    else:
        assert expected in (await problem(path, "spills")).message


async def test_a_named_file_that_is_not_a_spill_is_a_problem(path: Path) -> None:
    """The user expects a spill there."""
    named = path.with_name("a")
    named.write_text("x")
    assert "not a spill file" in (await problem(path, "spills", spills=[named])).message
    named.unlink()
    assert "No such file" in (await problem(path, "spills", spills=[named])).message


async def test_a_named_pipe_is_not_read(path: Path) -> None:
    """To open it would wait for a writer without end."""
    os.mkfifo(path.with_name("pipe"))
    finding = await problem(path, "spills", spills=[path.with_name("pipe")])
    assert "not a regular file" in finding.message


@pytest.mark.root
async def test_a_spill_of_another_user_is_a_problem(path: Path, spill: Path) -> None:
    """A replay refuses it. But not one of the owner of the database."""
    os.chown(spill, 54_321, 54_321)
    finding = await problem(path, "spills")
    assert (
        f"{str(spill)!r} belongs to user 54321, but this process runs as user 0" in finding.message
    )
    os.chown(path, 54_321, 54_321)
    assert "has 2 entries" in (await problem(path, "spills")).message


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
async def test_a_path_that_is_not_a_file_is_a_problem(path: Path, spill: Path, kind: str) -> None:
    """A link is not followed, and a pipe without a writer is not waited for."""
    named = path.parent.parent / kind
    match kind:
        case "link":
            named.symlink_to(spill)
        case "pipe":
            os.mkfifo(named)
        case _:
            named.mkdir()
    spill_itself, other = sorted(
        await found(path, "spills", spills=[named]), key=lambda f: f.values["path"] == str(named)
    )
    assert str(spill) == spill_itself.values["path"]
    assert Verdict.PROBLEM is other.verdict
    reason = "is a symbolic link" if kind == "link" else "is not a regular file"
    assert f"{str(named)!r} {reason}" in other.message
