"""The statistics socket in a folder of others: nothing of theirs is followed or removed."""

from __future__ import annotations

import socket
import stat
import subprocess
from pathlib import Path

import pytest

from tests.faults.harness import Zygote
from tests.faults.planted import OTHER, PLANTED, USER, assert_unchanged, plant

pytestmark = pytest.mark.root


def answer(zygote: Zygote, path: Path, user: int) -> str:
    """Return what a program says that serves at a path until it is asked to end."""
    with zygote.run("serving.py", path, user) as child:
        line = child.line()
        child.send("end")
        assert 0 == child.wait(), child.errors()
    return line


@pytest.mark.parametrize("user", [0, USER], ids=["superuser", "user"])
@pytest.mark.parametrize("kind", [*PLANTED])
def test_what_another_user_planted_is_refused(
    zygote: Zygote, sticky: Path, target: Path, kind: str, user: int
) -> None:
    """The error has the path, and what was planted stays as it is."""
    path = sticky / "top.sock"
    plant(kind, path, target)
    before = path.lstat()
    line = answer(zygote, path, user)
    assert f"FileExistsError: {str(path)!r} exists and is" in line
    assert before.st_ino == path.lstat().st_ino
    assert_unchanged(target)


@pytest.mark.parametrize("user", [0, USER], ids=["superuser", "user"])
def test_a_stale_socket_of_another_user_is_refused(zygote: Zygote, sticky: Path, user: int) -> None:
    """Only its owner, or the superuser, may decide that it is not needed."""
    path = sticky / "top.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    subprocess.run(["chown", str(OTHER), path], check=True)
    line = answer(zygote, path, user)
    assert f"{str(path)!r} exists and belongs to user {OTHER}, but this process runs as" in line
    assert path.is_socket()


@pytest.mark.parametrize("user", [0, USER], ids=["superuser", "user"])
def test_a_link_to_a_stale_socket_is_refused(
    zygote: Zygote, sticky: Path, target: Path, user: int
) -> None:
    """Neither the link nor the socket that it leads to is removed."""
    path = sticky / "top.sock"
    stale = sticky / "stale.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(stale))
    plant("link", path, stale)
    assert "exists and is a symbolic link" in answer(zygote, path, user)
    assert path.is_symlink()
    assert stale.is_socket()


def test_a_stale_socket_of_this_user_is_replaced(zygote: Zygote, sticky: Path) -> None:
    """In a sticky folder too. The socket is removed at the end."""
    path = sticky / "top.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    subprocess.run(["chown", str(USER), path], check=True)
    assert "serving" == answer(zygote, path, USER)
    assert not path.exists()


def test_another_user_can_neither_connect_nor_remove_the_socket(
    zygote: Zygote, sticky: Path
) -> None:
    """From the moment at which it appears: it is created with its mode."""
    path = sticky / "top.sock"
    connect = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    with zygote.run("serving.py", path, USER) as child:
        assert "serving" == child.line()
        assert 0o600 == stat.S_IMODE(path.lstat().st_mode)
        for command in (["rm", "-f", str(path)], ["python3", "-c", connect, str(path)]):
            done = subprocess.run(
                command, user=OTHER, group=OTHER, extra_groups=[], capture_output=True, check=False
            )
            assert 0 != done.returncode
        child.send("end")
        assert 0 == child.wait(), child.errors()
    assert not path.exists()


def test_the_end_of_the_block_removes_nothing_of_another_user(
    zygote: Zygote, sticky: Path, target: Path
) -> None:
    """In a folder without the sticky bit, another user may replace the socket."""
    sticky.chmod(0o777)
    path = sticky / "top.sock"
    with zygote.run("serving.py", path, USER) as child:
        assert "serving" == child.line()
        subprocess.run(["rm", "-f", path], check=True, user=OTHER, group=OTHER, extra_groups=[])
        plant("link", path, target)
        child.send("end")
        assert 0 == child.wait(), child.errors()
    assert path.is_symlink()
    assert_unchanged(target)
