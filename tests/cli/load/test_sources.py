"""Inputs are opened and decompressed, and their formats are known."""

from __future__ import annotations

import gzip
import io
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from forebay.cli._errors import InputError
from forebay.cli._load.sources import (
    READ_ERRORS,
    Format,
    format_of,
    open_source,
    source_size,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def zipped(*members: str, text: bytes = b"a\n1\n") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for member in members:
            archive.writestr(member, text)
    return file.getvalue()


def opened(path: Path, declared: Format | None = None) -> tuple[Format, bytes]:
    with open_source(str(path), declared, None) as source:
        return source.format, source.stream.read()


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.csv", Format.CSV),
        ("a.b.TSV", Format.TSV),
        ("dir.csv/a.ndjson", Format.NDJSON),
        ("a.jsonl.gz", Format.NDJSON),
        ("a.csv.zip", Format.CSV),
        ("a.json.zst", Format.JSON),
        ("a.txt", None),
        ("csv", None),
        (".csv", None),
        ("a.zip", None),
    ],
)
def test_the_extension_shows_the_format(name: str, form: Format | None) -> None:
    """In any case, and with the extension of the compression after it."""
    assert form is format_of(name)


@pytest.mark.parametrize(
    "pack",
    [bytes, gzip.compress, zstd.compress, lambda text: zipped("x.csv", text=text)],
)
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.csv.zip", "a.csv.zst"])
def test_the_content_shows_the_compression(
    name: str, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    """A compressed file is decompressed, whatever its extension."""
    (tmp_path / name).write_bytes(pack(b"a\n1\n"))
    assert (Format.CSV, b"a\n1\n") == opened(tmp_path / name)


def test_the_name_in_a_zip_archive_shows_the_format(tmp_path: Path) -> None:
    """The archive's own name is ignored, and so are folders and Finder's shadow files."""
    archive = tmp_path / "archive.csv.zip"
    archive.write_bytes(zipped("folder/", "folder/x.tsv", "__MACOSX/folder/._x.tsv"))
    assert (Format.TSV, b"a\n1\n") == opened(archive)


def test_a_declared_format_overrides_the_extension(tmp_path: Path) -> None:
    """--format decides."""
    (tmp_path / "a.csv").write_bytes(b"a\n")
    assert (Format.TSV, b"a\n") == opened(tmp_path / "a.csv", Format.TSV)


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("a.zip", zipped(), "a zip archive of 0 files; expected exactly one file"),
        ("a.zip", zipped("a.csv", "b.csv"), "a zip archive of 2 files; expected exactly one"),
        ("a.zip", zipped("a.dat"), "the format is unknown, since the name 'a.dat' ends in none"),
        ("a.csv.zip", b"PK\x03\x04 and no more", "cannot be read: File is not a zip file"),
        ("a.txt", b"a\n", "the format is unknown, since the name 'a.txt' ends in none"),
        ("a.csv", None, "cannot be read: No such file or directory"),
        ("a.xlsx", zipped("[Content_Types].xml", "xl/workbook.xml"), "the input is a spreadsheet"),
        ("a.ods", zipped("mimetype", "content.xml"), "the input is a spreadsheet"),
        ("a.csv", b"\xd0\xcf\x11\xe0\xa1\xb1", "the input is an Excel workbook"),
        ("a.csv", b"SQLite format 3\0", "the input is an SQLite database"),
        ("a.csv.xz", b"\xfd7zXZ\0", "the input is compressed by xz"),
    ],
)
def test_an_input_that_cannot_be_opened_is_an_error(
    name: str, data: bytes | None, problem: str, tmp_path: Path
) -> None:
    """The error has the input's name and the reason."""
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        opened(path)
    assert str(caught.value).startswith(f"{path}: {problem}")


def test_a_truncated_file_of_zstd_is_an_error(tmp_path: Path) -> None:
    """So is one with changed bytes."""
    packed = zstd.compress(bytes(range(256)) * 999)
    for data in (packed[:-9], packed[:6] + b"\xff" * 20):
        (tmp_path / "a.csv.zst").write_bytes(data)
        with (
            open_source(str(tmp_path / "a.csv.zst"), None, None) as source,
            pytest.raises(READ_ERRORS),
        ):
            while source.stream.read1(2**16):
                pass


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python has zstd since 3.14")
def test_without_the_package_for_zstd_the_error_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other inputs do not need it."""
    monkeypatch.setitem(sys.modules, "backports.zstd", None)
    monkeypatch.delattr("backports.zstd", raising=False)
    (tmp_path / "a.csv.zst").write_bytes(zstd.compress(b"a\n1\n"))
    with pytest.raises(InputError, match="zstd is missing"):
        opened(tmp_path / "a.csv.zst")


def test_a_format_for_inputs_whose_names_show_none(tmp_path: Path) -> None:
    """It comes after that of the extension."""
    for name, form in (("a.txt", Format.CSV), ("a.tsv", Format.TSV)):
        (tmp_path / name).write_bytes(b"a\n")
        with open_source(str(tmp_path / name), None, Format.CSV) as source:
            assert form is source.format


def test_only_regular_files_have_a_size(tmp_path: Path) -> None:
    """The progress bar has an end if all sizes are known."""
    (tmp_path / "a.csv").write_bytes(b"12345")
    os.mkfifo(tmp_path / "fifo")
    assert (5, None, None) == tuple(
        source_size(str(tmp_path / name)) for name in ("a.csv", "fifo", "missing")
    )
