"""Spill files: whole or not there, never over another, read back as they were written."""

from __future__ import annotations

import json
import math
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forebay import Delete, SpillError, Table, Update, Write
from forebay._database import Database
from forebay._spill import database_of, read_spill, write_spill
from forebay._table.json_format import encode_declaration

PAIRS = Table.from_columns({"k": str, "v": object}, name="pairs", key="k")
LOG = Table.from_columns({"line": bytes}, name="log")
EMPTY = Table.from_columns({"a": int}, name="empty")
UNSETTLED: dict[Table[Any], Any] = {
    PAIRS: [Write(("a\r\n\u2028", math.inf)), Delete("a\0"), Update("b", {"v": "caf\udce9"})],
    EMPTY: [],
    LOG: [Write((b"\0",))] * 3,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spill.jsonl"


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_what_was_spilled_is_read_back(path: Path) -> None:
    """Tables, entries and their order; when, and why."""
    before = time.time()
    assert path == write_spill(path, UNSETTLED, reason="locked by \udce9")
    spill = read_spill(path)
    assert list(map(encode_declaration, UNSETTLED)) == list(
        map(encode_declaration, spill.unsettled)
    )
    assert list(UNSETTLED.values()) == list(spill.unsettled.values())
    assert "locked by \udce9" == spill.reason
    assert before <= spill.written_at <= time.time()


def test_a_spill_names_its_database(path: Path) -> None:
    """Where it knows of one: its path and its id, whatever the path is made of."""
    database = Database("/srv/caf\udce9.db", "a1")
    assert database == read_spill(write_spill(path, UNSETTLED, database=database)).database
    assert database == database_of(path)
    assert read_spill(write_spill(path, UNSETTLED)).database is None


def test_a_spill_of_an_early_version_is_read(path: Path) -> None:
    """It has no word on its database."""
    edited(write_spill(path, UNSETTLED), 1, '"database": null, ', "")
    assert read_spill(path).database is None
    assert 3 == len(read_spill(path).unsettled)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (("/a", "1"), ("/a", "1"), False),
        (("/a", "1"), ("/b", "1"), False),
        (("/a", "1"), ("/a", "2"), True),
        (("/a", "1"), ("/a", None), False),
        (("/a", "1"), ("/b", None), True),
        (("/a", None), ("/b", None), True),
        (("/a", None), ("/a", None), False),
    ],
)
def test_the_ids_tell_databases_apart(
    one: tuple[str, str | None], other: tuple[str, str | None], expected: bool
) -> None:
    """A file that was moved is the same; the paths count where there is no id."""
    assert expected == Database(*one).is_other(Database(*other))
    assert expected == Database(*other).is_other(Database(*one))


def test_each_spill_has_its_own_id(path: Path) -> None:
    """By which a copy is known for one."""
    first, second = (read_spill(write_spill(path, {LOG: []})) for _ in range(2))
    assert first.id != second.id


def test_a_file_that_is_there_is_not_touched(path: Path) -> None:
    """The next spill takes the next number; so it does beside a spill that was not finished."""
    path.write_text("mine")
    path.with_name("spill.jsonl.1.part").touch()
    assert "spill.jsonl.2" == write_spill(path, UNSETTLED).name
    assert "spill.jsonl.3" == write_spill(path, UNSETTLED).name
    assert "mine" == path.read_text()
    assert ["spill.jsonl", "spill.jsonl.1.part", "spill.jsonl.2", "spill.jsonl.3"] == names(
        path.parent
    )


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("no_umask")
def test_a_spill_is_its_owners_alone(path: Path) -> None:
    """Rows may be secret."""
    assert 0o600 == stat.S_IMODE(write_spill(path, UNSETTLED).stat().st_mode)


class NoSpaceError(OSError):
    """The disk is full."""


def test_a_spill_that_fails_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a file would look like one."""

    def fsync(_descriptor: int) -> None:
        raise NoSpaceError

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(NoSpaceError):
        write_spill(path, UNSETTLED)
    assert [] == names(path.parent)


def test_the_file_is_on_the_disk_before_it_has_its_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First its contents, then its name in the folder."""
    seen: list[tuple[bool, int]] = []

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        seen.append((stat.S_ISDIR(status.st_mode), path.stat().st_size))

    monkeypatch.setattr(os, "fsync", fsync)
    write_spill(path, UNSETTLED)
    assert [(False, 0), (True, path.stat().st_size)] == seen


def test_no_folder_is_the_callers_to_hear(path: Path) -> None:
    """The error is the operating system's and bears the path."""
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_spill(path.parent / "nowhere" / "a", UNSETTLED)


def edited(path: Path, line: int, old: str, new: str) -> None:
    lines = path.read_text().split("\n")
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new)
    path.write_text("\n".join(lines), errors="surrogateescape")


@pytest.mark.parametrize(
    ("line", "old", "new", "expected"),
    [
        (1, "forebay_spill", "spill", "line 1: this is no spill file"),
        (1, ": 1,", ": 2,", "line 1: the format is not 1"),
        (1, '"reason"', '"why"', "line 1: the first line has no reason"),
        (1, '"reason": ""', '"reason": null', "line 1: None is no reason"),
        (1, '"id": ', '"id": 1, "x": ', "line 1: 1 is no id"),
        (1, '"written_at": ', '"written_at": "", "x": ', "line 1: '' is no written_at"),
        (1, '"database": null', '"database": 1', "line 1: 1 is no database"),
        (3, '{"write"', "[" * 100_000, "line 3: the JSON is nested too deeply"),
        (3, '"write"', '"\udce9', "line 3: 'utf-8' codec can't decode"),
        (2, '"entries": 3', '"entries": true', "line 2: True is no number of entries"),
        (1, "}", "", "line 1: Expecting"),
        (2, '"entries": 3', '"entries": 4', "line 6: "),
        (2, '"entries": 3', '"entries": -1', "line 2: -1 is no number of entries"),
        (2, '"key"', '"keys"', "line 2: invalid declaration"),
        (2, '"entries": 3', '"entries": 2', "line 5: expected a table here"),
        (3, '"k"', '"q"', "line 3: expected the columns k, v, got q, v"),
        (7, '"entries": 3', '"entries": 4', "line 10: the file ends here"),
        (1, '"tables": 3', '"tables": 4', "line 10: the file ends here"),
    ],
)
def test_a_damaged_file_names_the_line(
    path: Path, line: int, old: str, new: str, expected: str
) -> None:
    """And is read not at all, rather than in part."""
    edited(write_spill(path, UNSETTLED), line, old, new)
    with pytest.raises(SpillError, match=rf"spill\.jsonl', {expected}"):
        read_spill(path)


def test_an_empty_file_is_no_spill(path: Path) -> None:
    """What a process leaves that died between taking the name and writing."""
    path.touch()
    with pytest.raises(SpillError, match="no whole line"):
        read_spill(path)


def test_a_file_cut_anywhere_is_refused(path: Path) -> None:
    """Whatever a copy lost of its end."""
    whole = write_spill(path, UNSETTLED).read_bytes()
    for length in range(len(whole) - 1):  # the last byte is a line feed
        path.write_bytes(whole[:length])
        with pytest.raises(SpillError):
            read_spill(path)


def test_a_file_cut_anywhere_has_its_whole_lines(path: Path) -> None:
    """On request; a line that lacks no more than its line feed is whole."""
    whole = write_spill(path, UNSETTLED).read_bytes()
    entries = [operation for operations in UNSETTLED.values() for operation in operations]
    declared = {1, 2, 6, 7}  # lines
    for length in range(whole.index(b"\n"), len(whole) + 1):
        path.write_bytes(whole[:length])
        spill = read_spill(path, incomplete=True)
        lines = whole[: length + 1].count(b"\n")
        expected = entries[: len(set(range(1, lines + 1)) - declared)]
        assert expected == [entry for part in spill.unsettled.values() for entry in part]
    path.write_bytes(whole[: whole.index(b"\n") - 1])
    with pytest.raises(SpillError, match="no whole line"):
        read_spill(path, incomplete=True)


def test_a_whole_line_that_is_damaged_is_refused_in_any_case(path: Path) -> None:
    """What follows it may be whole."""
    edited(write_spill(path, UNSETTLED), 3, "{", "")
    with pytest.raises(SpillError, match="line 3"):
        read_spill(path, incomplete=True)


def test_bytes_that_are_no_text_are_refused(path: Path) -> None:
    """A file of another kind."""
    path.write_bytes(b"\xffSQLite")
    with pytest.raises(SpillError, match=r"line 1: this is no spill file"):
        read_spill(path)


def test_every_line_is_json(path: Path) -> None:
    """For other tools."""
    for line in write_spill(path, UNSETTLED).read_text().removesuffix("\n").split("\n"):
        assert isinstance(json.loads(line), dict)
