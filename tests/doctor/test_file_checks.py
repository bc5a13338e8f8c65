"""Checks of the file from outside: the file itself, its WAL, its disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from forebay._spill.writing import write_spill
from forebay.doctor import Verdict, examine
from tests.doctor.site import HITS, found, problem


async def test_a_missing_file_is_not_created(tmp_path: Path) -> None:
    """It is a problem."""
    assert "there is no file" in (await problem(tmp_path / "no.db", "file")).message
    assert [] == list(tmp_path.iterdir())


async def test_a_wal_without_its_file_must_be_kept(path: Path) -> None:
    """It may have the last transactions."""
    path.with_name("site.db-wal").write_bytes(b"x")
    path.unlink()
    assert "keep it" in (await problem(path, "file")).message


async def test_a_missing_folder_is_two_problems(tmp_path: Path) -> None:
    """Its disk is not known either."""
    report = await examine(tmp_path / "no" / "no.db")
    assert ["file", "disk"] == [f.check for f in report.findings if f.verdict is Verdict.PROBLEM]


async def test_only_a_regular_file_is_opened(tmp_path: Path) -> None:
    """Not a folder, nor a pipe, which blocks whoever opens it."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        assert "not a regular file" in (await problem(path, "file")).message


async def test_two_names_of_one_file_are_a_problem(path: Path) -> None:
    """Each name would have its own WAL."""
    path.with_name("other.db").hardlink_to(path)
    assert "2 names" in (await problem(path, "file")).message


async def test_a_large_wal_is_advice(path: Path) -> None:
    """A reader was open for long."""
    with path.with_name("site.db-wal").open("wb") as wal:
        wal.truncate(65 * 2**20)
    [finding] = await found(path, "wal")
    assert Verdict.ADVICE is finding.verdict


async def test_a_disk_with_little_space_is_a_problem(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it is full."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=99 * 2**20))
    assert {"free_bytes": 99 * 2**20} == (await problem(path, "disk")).values


async def test_the_files_beside_the_real_file_are_examined(path: Path, tmp_path: Path) -> None:
    """If the path is a symbolic link, SQLite keeps its other files beside the real one."""
    link = tmp_path / "link.db"
    link.symlink_to(path)
    wal = path.with_name("site.db-wal")
    with wal.open("wb") as opened:
        opened.truncate(65 * 2**20)
    tmp_path.joinpath("link.db-wal").write_bytes(b"of nothing")
    [finding] = await found(link, "wal")
    assert {"bytes": 65 * 2**20} == finding.values
    path.unlink()
    assert f"WAL {str(wal)!r}" in (await problem(link, "file")).message


async def test_the_spills_beside_a_link_and_beside_its_file_are_found(
    path: Path, tmp_path: Path
) -> None:
    """A program may have opened the database by either name."""
    link = tmp_path / "link.db"
    link.symlink_to(path)
    spills = [write_spill(folder / "spill.jsonl", {HITS: []}) for folder in (tmp_path, path.parent)]
    assert [str(spill) for spill in spills] == [
        finding.values["path"] for finding in await found(link, "spills")
    ]
    assert 1 == len(await found(path, "spills"))
