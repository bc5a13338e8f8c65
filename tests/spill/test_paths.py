"""The path of a spill: checked before anything can be spilled, and what may be read."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from forebay import OptionsError, SpillError, Table, Write
from forebay._spill.reading import is_spill, read_database, read_spill
from forebay._spill.writing import check_spill_path, write_spill

LOG = Table.from_columns({"line": str}, name="log")
OTHER = 54_321
"""A user that is neither this one nor the superuser."""


@pytest.fixture
def spill(tmp_path: Path) -> Path:
    """Return a spill with one entry."""
    return write_spill(tmp_path / "left.spill", {LOG: [Write(("a",))]})


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, which has a folder, a file, a pipe, a socket and links."""
    here = tmp_path / "here"
    (here / "folder").mkdir(parents=True)
    (here / "file").touch()
    os.mkfifo(here / "pipe")
    (here / "link").symlink_to("file")
    (here / "dangling").symlink_to("nowhere")
    monkeypatch.chdir(here)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
    return here


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("", "the path is empty"),
        (b"", "the path is empty"),
        (".", "this names a folder"),
        (Path(), "this names a folder"),
        ("..", "this names a folder"),
        ("/", "this names a folder"),
        ("folder/", "this names a folder"),
        ("new/", "this names a folder"),
        ("folder/.", "this names a folder"),
        ("folder", "the path is not a regular file"),
        ("pipe", "the path is not a regular file"),
        ("socket", "the path is not a regular file"),
        ("/dev/null", "the path is not a regular file"),
        ("link", "the path is a symbolic link"),
        ("dangling", "the path is a symbolic link"),
        ("a\0b", "embedded null"),
        (b"a\0b", "embedded null"),
        ("a\0b/c", "embedded null"),
        ("\ud800", "surrogates not allowed"),
        ("nowhere/left.spill", "No such file or directory"),
        ("file/left.spill", "Not a directory"),
        ("dangling/left.spill", "No such file or directory"),
        ("a" * 250, "File name too long"),
        ("a" * 10_000, "File name too long"),
        ("folder/" * 10_000 + "a", "File name too long"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_path_to_which_no_spill_can_be_written_is_refused(
    here: Path, path: Any, problem: str
) -> None:
    """The error names the argument, and says what is expected."""
    with pytest.raises(OptionsError) as caught:
        check_spill_path(path)
    text = str(caught.value)
    assert text.startswith(f"spill = {os.fsdecode(path)!r}: ")
    assert problem in text
    assert text.endswith("expected a file in an existing folder that this process may write to")


@pytest.mark.parametrize("path", [3, True, 1.5, ["a"], object()])
def test_a_value_that_is_not_a_path_is_refused(path: Any) -> None:
    """The error names the argument."""
    with pytest.raises(TypeError, match=r"^spill must be the path of a file, not "):
        check_spill_path(path)


@pytest.mark.parametrize(
    "path",
    ["new", b"new", "./new", "folder/new", "folder/../new", "file", "caf\udce9", "a" * 240],
)
def test_a_path_becomes_absolute(here: Path, path: Any) -> None:
    """Nothing is created, and no symbolic link on the way is resolved."""
    before = sorted(here.rglob("*"))
    assert here / os.fsdecode(path) == check_spill_path(path)
    assert before == sorted(here.rglob("*"))


def test_the_way_to_the_folder_may_have_symbolic_links(here: Path) -> None:
    """As on systems where `/var/run` is one."""
    (here / "way").symlink_to("folder")
    path = check_spill_path("way/left.spill")
    assert here / "way" / "left.spill" == path
    assert path == write_spill(path, {LOG: [Write(("a",))]})
    assert (here / "folder" / "left.spill").is_file()
    assert 1 == read_spill(path).entries


def test_a_current_folder_that_was_removed_is_refused(here: Path) -> None:
    """The path could not be made absolute."""
    os.chdir(here / "folder")
    (here / "folder").rmdir()
    with pytest.raises(OptionsError, match=r"^spill = 'new': No such file or directory"):
        check_spill_path("new")


@pytest.mark.root
def test_a_file_of_another_user_is_refused_at_the_opening(spill: Path) -> None:
    """The user may be the attacker who waits for entries in it."""
    os.chown(spill, OTHER, OTHER)
    with pytest.raises(OptionsError, match=rf"the path belongs to user {OTHER}, but this process"):
        check_spill_path(spill)


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "device", "socket"])
def test_only_a_regular_file_is_read(spill: Path, kind: str) -> None:
    """A pipe without a writer would make the reader wait forever."""
    path = Path("/dev/zero") if kind == "device" else spill.with_name(kind)
    match kind:
        case "link":
            path.symlink_to(spill)
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "socket":
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(str(path))
    refusal = OSError if kind == "socket" else SpillError
    for incomplete in (False, True):
        with pytest.raises(refusal) as caught:
            read_spill(path, incomplete=incomplete)
        assert str(path) in str(caught.value)
    assert read_database(path) is None


@pytest.mark.root
def test_a_file_of_another_user_is_not_read(spill: Path) -> None:
    """A user who may not write to the database could replay entries by it."""
    os.chown(spill, OTHER, OTHER)
    expected = rf"'{spill}' belongs to user {OTHER}, but this process runs as user 0: if you trust"
    with pytest.raises(SpillError, match=expected):
        read_spill(spill)
    assert read_database(spill) is None
    assert is_spill(spill)
    assert 1 == read_spill(spill, owners=[OTHER]).entries
