"""Inputs are opened, unpacked, and their format told."""

from __future__ import annotations

import gzip
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from forebay.cli._errors import InputError
from forebay.cli._load.sources import Format, format_of, open_source, size_of


def zipped(*members: str, text: bytes = b"a\n1\n") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for member in members:
            archive.writestr(member, text)
    return file.getvalue()


def opened(path: Path, declared: Format | None = None) -> tuple[Format, bytes]:
    with open_source(str(path), declared) as source:
        return source.format, source.stream.read()


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.csv", Format.CSV),
        ("a.b.TSV", Format.TSV),
        ("dir.csv/a.ndjson", Format.NDJSON),
        ("a.jsonl.gz", Format.NDJSON),
        ("a.csv.zip", Format.CSV),
        ("a.txt", None),
        ("csv", None),
        (".csv", None),
        ("a.zip", None),
    ],
)
def test_a_name_tells_the_format(name: str, form: Format | None) -> None:
    """The ending counts, in any case, with an ending for the packing after it."""
    assert form is format_of(name)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lambda text: zipped("x.csv", text=text)])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.csv.zip"])
def test_packing_is_told_by_the_content(
    name: str, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    """A file is unpacked if it is packed, whatever its name says of that."""
    (tmp_path / name).write_bytes(pack(b"a\n1\n"))
    assert (Format.CSV, b"a\n1\n") == opened(tmp_path / name)


def test_the_name_inside_a_zip_tells_the_format(tmp_path: Path) -> None:
    """What the archive is called is no matter; folders and Finder's shadow files do not count."""
    archive = tmp_path / "archive.csv.zip"
    archive.write_bytes(zipped("folder/", "folder/x.tsv", "__MACOSX/folder/._x.tsv"))
    assert (Format.TSV, b"a\n1\n") == opened(archive)


def test_a_declared_format_counts_before_the_name(tmp_path: Path) -> None:
    """--format overrules a name that says otherwise."""
    (tmp_path / "a.csv").write_bytes(b"a\n")
    assert (Format.TSV, b"a\n") == opened(tmp_path / "a.csv", Format.TSV)


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("a.zip", zipped(), "a zip archive of 0 files; expected one of exactly one file"),
        ("a.zip", zipped("a.csv", "b.csv"), "a zip archive of 2 files; expected one"),
        ("a.zip", zipped("a.dat"), "the name 'a.dat' does not tell the format"),
        ("a.csv.zip", b"PK\x03\x04 and no more", "cannot be read: File is not a zip file"),
        ("a.txt", b"a\n", "the name 'a.txt' does not tell the format"),
        ("a.csv", None, "cannot be read: No such file or directory"),
    ],
)
def test_what_cannot_be_opened_is_told(
    name: str, data: bytes | None, problem: str, tmp_path: Path
) -> None:
    """The input's name, and what is wrong with it."""
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        opened(path)
    assert str(caught.value).startswith(f"{path}: {problem}")


def test_the_size_of_a_file_is_known_and_of_a_pipe_is_not(tmp_path: Path) -> None:
    """A bar has an end where there is one to know."""
    (tmp_path / "a.csv").write_bytes(b"12345")
    os.mkfifo(tmp_path / "fifo")
    assert (5, None, None) == tuple(
        size_of(str(tmp_path / name)) for name in ("a.csv", "fifo", "missing")
    )
