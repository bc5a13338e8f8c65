"""Spill files: written completely or not at all, and read back unchanged."""

from __future__ import annotations

import json
import math
import os
import re
import stat
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay import Delete, SpillError, Table, Update, Write
from forebay._database import Database
from forebay._spill.model import Spill
from forebay._spill.reading import is_spill, read_database, read_spill
from forebay._spill.writing import write_spill
from forebay._table.json_format import encode_declaration
from forebay._version import __version__

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
    """Return the path of a spill file that does not exist."""
    return tmp_path / "spill.jsonl"


def names(folder: Path) -> list[str]:
    """Return the names of the files in a folder."""
    return sorted(file.name for file in folder.iterdir())


def test_reading_returns_what_was_written(path: Path) -> None:
    """The tables, the entries in order, the reason and the time."""
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
    """The path may contain any bytes; the database may be unknown."""
    database = Database("/srv/caf\udce9.db", "a1")
    assert database == read_spill(write_spill(path, UNSETTLED, database=database)).database
    assert database == read_database(path)
    assert read_spill(write_spill(path, UNSETTLED)).database is None


def test_a_spill_of_an_early_version_is_read(path: Path) -> None:
    """Its first line has no database."""
    edit(write_spill(path, UNSETTLED), 1, '"database": null, ', "")
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
def test_ids_identify_databases(
    one: tuple[str, str | None], other: tuple[str, str | None], expected: bool
) -> None:
    """A moved file is the same database; without both ids, the paths decide."""
    assert expected == Database(*one).differs_from(Database(*other))
    assert expected == Database(*other).differs_from(Database(*one))


def test_each_spill_has_a_unique_id(path: Path) -> None:
    """Only copies of a file have the same id."""
    first, second = (read_spill(write_spill(path, {LOG: []})) for _ in range(2))
    assert first.id != second.id


def test_an_existing_file_is_not_changed(path: Path) -> None:
    """A spill gets the next free number, also if an interrupted spill has the number before."""
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
    """Create files without a umask, which could hide a wrong mode."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("no_umask")
def test_only_the_owner_can_read_a_spill(path: Path) -> None:
    """Rows may contain secrets."""
    assert 0o600 == stat.S_IMODE(write_spill(path, UNSETTLED).stat().st_mode)


class NoSpaceError(OSError):
    """The disk is full."""


def test_a_failed_spill_leaves_no_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An incomplete file would look like a spill."""

    def fsync(_descriptor: int) -> None:
        raise NoSpaceError

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(NoSpaceError):
        write_spill(path, UNSETTLED)
    assert [] == names(path.parent)


def test_the_contents_are_on_the_disk_before_the_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is flushed before it is renamed, and the folder after."""
    seen: list[tuple[bool, int]] = []

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        seen.append((stat.S_ISDIR(status.st_mode), path.stat().st_size))

    monkeypatch.setattr(os, "fsync", fsync)
    write_spill(path, UNSETTLED)
    assert [(False, 0), (True, path.stat().st_size)] == seen


def open_files() -> list[str]:
    """Return the names of the open descriptors of this process."""
    return sorted(os.listdir("/dev/fd"))  # noqa: PTH208  # only the names


def test_no_descriptor_stays_open(path: Path) -> None:
    """Neither of the file nor of its folder, also if the spill cannot be written or read."""
    before = open_files()
    written = write_spill(path, UNSETTLED)
    assert before == open_files()
    read_spill(written)
    assert read_database(written) is None
    assert is_spill(written)
    assert before == open_files()
    with pytest.raises(KeyError):
        write_spill(path, {LOG: [object()]})  # type: ignore[list-item]  # cannot be encoded
    with pytest.raises(FileNotFoundError):
        write_spill(path.parent / "nowhere" / "a", UNSETTLED)
    written.write_text("damaged")
    for wrong in (written, path.parent):
        with pytest.raises(SpillError):
            read_spill(wrong)
    assert before == open_files()


def test_the_database_of_a_file_with_an_endless_line_is_found_in_bounded_memory(
    path: Path,
) -> None:
    """The doctor looks at every file whose name contains `spill`."""
    path.write_bytes(b'{"forebay_spill": 1, "reason": "' + b"a" * 64 * 2**20)
    tracemalloc.start()
    try:
        assert read_database(path) is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * 2**20


def test_writing_takes_no_memory_in_proportion_to_the_entries(path: Path) -> None:
    """A program often spills because its memory is full of entries."""
    entries = [Write((bytes(1_000),))] * 5_000
    tracemalloc.start()
    try:
        write_spill(path, {LOG: entries})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 5 * 2**20
    assert peak < 2**20


def test_a_missing_folder_raises_an_os_error(path: Path) -> None:
    """The error of the operating system contains the path."""
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_spill(path.parent / "nowhere" / "a", UNSETTLED)


def edit(path: Path, line: int, old: str, new: str) -> None:
    """Replace a text in one line of a file."""
    lines = path.read_text().split("\n")
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new)
    path.write_text("\n".join(lines), errors="surrogateescape")


@pytest.mark.parametrize(
    ("line", "old", "new", "expected"),
    [
        (1, "forebay_spill", "spill", "line 1: not a spill file"),
        (1, ": 1,", ": 0,", "line 1: invalid number of a format: 0"),
        (1, ": 1,", ": true,", "line 1: invalid number of a format: True"),
        (1, '"reason"', '"why"', "line 1: the first line has no reason"),
        (1, '"reason": ""', '"reason": null', "line 1: invalid reason in the first line: None"),
        (1, '"id": ', '"id": 1, "x": ', "line 1: invalid id in the first line: 1"),
        (
            1,
            '"written_at": ',
            '"written_at": "", "x": ',
            "line 1: invalid written_at in the first line: ''",
        ),
        (1, '"written_at": ', '"written_at": 1e999, "x": ', "line 1: invalid written_at .*: inf"),
        (1, '"written_at": ', '"written_at": true, "x": ', "line 1: invalid written_at .*: True"),
        (1, '"written_at": ', f'"written_at": 1{"0" * 400}, "x": ', "line 1: invalid written_at"),
        (1, '"written_at": ', f'"written_at": 1{"0" * 5000}, "x": ', "line 1: Exceeds the limit"),
        (1, '"tables": 3', '"tables": true', "line 1: invalid tables in the first line: True"),
        (1, '"database": null', '"database": 1', "line 1: invalid database in the first line: 1"),
        (3, '{"write"', "[" * 100_000, "line 3: the JSON is nested too deeply"),
        (3, '"write"', '"\udce9', "line 3: 'utf-8' codec can't decode"),
        (2, '"entries": 3', '"entries": true', "line 2: invalid number of entries: True"),
        (1, "}", "", "line 1: Expecting"),
        (2, '{"table"', 'null#{"table"', "line 2: Extra data"),
        (2, '"table": {', '"table": null, "x": {', "line 2: expected a line with a table"),
        (2, '"entries": 3', '"entries": 4', "line 6: "),
        (2, '"entries": 3', '"entries": -1', "line 2: invalid number of entries: -1"),
        (2, '"key"', '"keys"', "line 2: invalid declaration"),
        (2, '"entries": 3', '"entries": 2', "line 5: expected a line with a table"),
        (3, '"k"', '"q"', "line 3: expected the columns k, v, got q, v"),
        (7, '"entries": 3', '"entries": 4', "line 10: the file ends here"),
        (1, '"tables": 3', '"tables": 4', "line 10: the file ends here"),
    ],
)
def test_a_damaged_file_names_the_line(
    path: Path, line: int, old: str, new: str, expected: str
) -> None:
    """A damaged file is not read in part."""
    edit(write_spill(path, UNSETTLED), line, old, new)
    with pytest.raises(SpillError, match=rf"spill\.jsonl', {expected}"):
        read_spill(path)


@pytest.mark.parametrize("line", ["null", "1", "[]", '"table"', "{}", '{"table": null}'])
def test_a_line_that_is_not_a_table_is_refused(path: Path, line: str) -> None:
    """Any JSON value is refused, and so is a table without a declaration."""
    first, *rest = write_spill(path, UNSETTLED).read_text().split("\n")
    for table_line in (line, '{"table": null, "entries": 1}'):
        path.write_text("\n".join([first, table_line, *rest[1:]]))
        with pytest.raises(SpillError, match=r"line 2: "):
            read_spill(path)


def test_a_newer_format_is_refused(path: Path) -> None:
    """The error names the file and the formats, and says what to do."""
    edit(write_spill(path, UNSETTLED), 1, ": 1,", ": 2,")
    with pytest.raises(SpillError) as caught:
        read_spill(path)
    assert str(caught.value) == (
        f"{str(path)!r}, line 1: its format 2 is newer than format 1, the newest that forebay "
        f"{__version__} reads: install a newer version of forebay"
    )
    assert read_database(path) is None


@given(st.data())
def test_whatever_is_in_a_file_it_is_read_or_refused(data: st.DataObject) -> None:
    """A change of some bytes, or of a value, never raises another error."""
    with TemporaryDirectory() as folder:
        path = write_spill(Path(folder) / "spill", UNSETTLED)
        head, _, rest = path.read_bytes().partition(b"\n")
        head = re.sub(rb'"id": "\w+", "written_at": [\d.]+', FIXED, head)
        content = bytearray(head + b"\n" + rest)
        for _ in range(data.draw(st.integers(1, 3))):
            start = data.draw(st.integers(0, len(content)))
            length = data.draw(st.sampled_from([0, 1, 5, 20]))
            content[start : start + length] = data.draw(st.sampled_from(JUNK) | st.binary())
        path.write_bytes(content)
        for incomplete in (False, True):
            with suppress(SpillError):
                assert isinstance(read_spill(path, incomplete=incomplete), Spill)


FIXED = b'"id": "a", "written_at": 1.0'
"""Instead of the values that are different in each run."""

JUNK = [
    junk.encode()
    for junk in (
        *("null", "true", "1e999", "-1", "1" * 400, "1" * 5_000, '"a"', "[]", "{}", "\n", "\0"),
        *('{"int": "1"}', '{"float": "x"}', '{"base64": "?"}', '{"escaped": "\\\\x"}', "[" * 5_000),
    )
]


def test_an_empty_file_is_refused(path: Path) -> None:
    """A process that is killed before it has written a spill leaves an empty file."""
    path.touch()
    with pytest.raises(SpillError, match="no complete line"):
        read_spill(path)


def test_a_truncated_file_is_refused(path: Path) -> None:
    """Every length but the full one raises an error."""
    whole = write_spill(path, UNSETTLED).read_bytes()
    for length in range(len(whole) - 1):  # the last byte is a line feed
        path.write_bytes(whole[:length])
        with pytest.raises(SpillError):
            read_spill(path)


def test_the_complete_lines_of_a_truncated_file_are_read_on_request(path: Path) -> None:
    """A line that lacks only its line feed is complete."""
    whole = write_spill(path, UNSETTLED).read_bytes()
    entries = [operation for operations in UNSETTLED.values() for operation in operations]
    declared = {1, 2, 6, 7}  # the lines without an entry
    for length in range(whole.index(b"\n"), len(whole) + 1):
        path.write_bytes(whole[:length])
        spill = read_spill(path, incomplete=True)
        lines = whole[: length + 1].count(b"\n")
        expected = entries[: len(set(range(1, lines + 1)) - declared)]
        assert expected == [entry for part in spill.unsettled.values() for entry in part]
    path.write_bytes(whole[: whole.index(b"\n") - 1])
    with pytest.raises(SpillError, match="no complete line"):
        read_spill(path, incomplete=True)


def test_a_damaged_complete_line_is_refused_also_in_a_truncated_file(path: Path) -> None:
    """The lines after it may be valid, so they must not be lost."""
    edit(write_spill(path, UNSETTLED), 3, "{", "")
    with pytest.raises(SpillError, match="line 3"):
        read_spill(path, incomplete=True)


def test_a_file_that_is_not_text_is_refused(path: Path) -> None:
    """The error is the same as for other texts."""
    path.write_bytes(b"\xffSQLite")
    with pytest.raises(SpillError, match=r"line 1: not a spill file"):
        read_spill(path)


def test_every_line_is_json(path: Path) -> None:
    """Other tools can read a spill file."""
    for line in write_spill(path, UNSETTLED).read_text().removesuffix("\n").split("\n"):
        assert isinstance(json.loads(line), dict)
