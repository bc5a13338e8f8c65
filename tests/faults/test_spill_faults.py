"""A spill that meets a fault: the error with the entries always leaves, and says where they are."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from forebay import OptionsError
from forebay._spill.reading import read_spill
from forebay._spill.writing import check_spill_path
from tests.faults.harness import Fault, Zygote, mounted
from tests.faults.planted import OTHER, PLANTED, USER, assert_unchanged, plant


def run(
    zygote: Zygote,
    spill: Path,
    *,
    user: int = 0,
    lack: str = "nothing",
    faults: tuple[Fault, ...] = (),
) -> dict[str, Any]:
    """Run the program to its end, and return what became of its entry."""
    with zygote.run("spilling.py", spill, user, lack, faults=faults) as child:
        child.send("leave")
        lines = child.lines()
        assert 0 == child.wait(), child.errors()
    return dict(json.loads(lines[-1]))


def entries(path: str) -> int:
    return read_spill(path, owners=[USER]).entries


def test_without_a_thread_the_spill_is_written_all_the_same(zygote: Zygote, tmp_path: Path) -> None:
    """No thread can be started, so the event loop writes the file."""
    spill = tmp_path / "left.spill"
    result = run(zygote, spill, lack="threads")
    assert {"entries": 1, "spill": str(spill), "notes": []} == result
    assert 1 == entries(result["spill"])


def test_without_memory_the_error_leaves(zygote: Zygote, tmp_path: Path) -> None:
    """The entry does not fit into memory as text, and no part of a file is left."""
    result = run(zygote, tmp_path / "left.spill", lack="memory")
    assert (1, None) == (result["entries"], result["spill"])
    [note] = result["notes"]
    assert "only in this error, in no file: writing the spill failed with MemoryError" in note
    assert [] == list(tmp_path.iterdir())


@pytest.mark.strace
@pytest.mark.parametrize("error", ["EIO", "EINVAL", "ENOSPC"])
def test_a_folder_that_cannot_be_synced_is_a_doubt(
    zygote: Zygote, tmp_path: Path, error: str
) -> None:
    """The file is complete and in its folder, so the error names it, with the doubt."""
    spill = tmp_path / "left.spill"
    fault = Fault(tmp_path, "fsync", f"error={error}", "1", files=("",))
    result = run(zygote, spill, faults=(fault,))
    assert (1, str(spill)) == (result["entries"], result["spill"])
    [note] = result["notes"]
    assert f"a power failure may damage the spill {str(spill)!r}: its name was not synced" in note
    assert 1 == entries(result["spill"])


@pytest.mark.strace
def test_a_file_system_without_fsync_is_a_doubt(zygote: Zygote, tmp_path: Path) -> None:
    """The file can be read, so its entries are not thrown away."""
    spill = tmp_path / "left.spill"
    fault = Fault(spill, "fsync", "error=EINVAL", "1", files=(".part",))
    result = run(zygote, spill, faults=(fault,))
    assert (1, str(spill)) == (result["entries"], result["spill"])
    [note] = result["notes"]
    assert "its contents were not synced" in note
    assert 1 == entries(result["spill"])


@pytest.mark.strace
@pytest.mark.parametrize(
    ("call", "error"), [("fsync", "EIO"), ("fsync", "ENOSPC"), ("write", "ENOSPC")]
)
def test_a_file_that_cannot_be_written_is_removed(
    zygote: Zygote, tmp_path: Path, call: str, error: str
) -> None:
    """A part of it would look like a spill; the error has the entries."""
    spill = tmp_path / "left.spill"
    fault = Fault(spill, call, f"error={error}", "1", files=(".part",))
    result = run(zygote, spill, faults=(fault,))
    assert (1, None) == (result["entries"], result["spill"])
    assert "in no file" in result["notes"][0]
    assert [] == list(tmp_path.iterdir())


@pytest.mark.root
@pytest.mark.parametrize("user", [0, USER], ids=["superuser", "user"])
@pytest.mark.parametrize("kind", [*PLANTED])
def test_what_another_user_planted_is_refused_at_the_opening(
    zygote: Zygote, sticky: Path, target: Path, kind: str, user: int
) -> None:
    """The error names the argument and the path."""
    spill = sticky / "left.spill"
    if kind == "hard link" and target.stat().st_dev != sticky.stat().st_dev:
        pytest.skip("two file systems")
    plant(kind, spill, target)
    result = run(zygote, spill, user=user)
    assert f"spill = {str(spill)!r}: the path " in result["refused"]
    assert_unchanged(target)


@pytest.mark.root
@pytest.mark.parametrize("user", [0, USER], ids=["superuser", "user"])
@pytest.mark.parametrize("suffix", ["", ".part"])
@pytest.mark.parametrize("kind", [*PLANTED])
def test_what_another_user_plants_later_is_not_used(
    zygote: Zygote, sticky: Path, target: Path, kind: str, suffix: str, user: int
) -> None:
    """The spill gets the next name; what was planted, and what it leads to, is unchanged."""
    spill = sticky / "left.spill"
    planted = sticky / f"left.spill{suffix}"
    with zygote.run("spilling.py", spill, user, "nothing") as child:
        assert "open" == child.line()
        plant(kind, planted, target)
        before = planted.lstat()
        child.send("leave")
        result = json.loads(child.line())
        assert 0 == child.wait(), child.errors()
    assert f"{spill}.1" == result["spill"]
    status = os.stat(result["spill"])  # noqa: PTH116  # the path is text
    assert (0o600, user) == (stat.S_IMODE(status.st_mode), status.st_uid)
    assert 1 == entries(result["spill"])
    assert (before.st_ino, before.st_size) == (planted.lstat().st_ino, planted.lstat().st_size)
    assert_unchanged(target)


@pytest.mark.root
def test_a_spill_in_a_sticky_folder_is_this_users(zygote: Zygote, sticky: Path) -> None:
    """Another user can neither read nor remove it."""
    spill = sticky / "left.spill"
    assert str(spill) == run(zygote, spill, user=USER)["spill"]
    for command in (f"cat {spill}", f"rm -f {spill}", f"mv {spill} {sticky}/moved"):
        with pytest.raises(subprocess.CalledProcessError):
            subprocess.run(
                command.split(),
                check=True,
                user=OTHER,
                group=OTHER,
                extra_groups=[],
                capture_output=True,
            )
    assert 1 == entries(str(spill))


@pytest.mark.root
def test_a_folder_without_permission_is_refused(zygote: Zygote, sticky: Path) -> None:
    """The spill could not be written when it is needed."""
    spill = sticky.parent / "left.spill"
    result = run(zygote, spill, user=USER)
    assert f"this process may not write to the folder {str(spill.parent)!r}" in result["refused"]


@pytest.mark.root
def test_a_file_system_that_is_read_only_is_refused(tmp_path: Path) -> None:
    """Also to the superuser, to whom all permissions are granted."""
    with (
        mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "ro", "tmpfs") as folder,
        pytest.raises(OptionsError, match=rf"may not write to the folder '{folder}'"),
    ):
        check_spill_path(folder / "left.spill")


@pytest.mark.root
def test_a_folder_that_cannot_be_read_is_a_doubt(zygote: Zygote, sticky: Path) -> None:
    """Its names cannot be synced, but the spill can be written."""
    sticky.chmod(0o1733)
    result = run(zygote, sticky / "left.spill", user=USER)
    assert str(sticky / "left.spill") == result["spill"]
    assert "its name was not synced to the disk: Permission denied" in result["notes"][0]
