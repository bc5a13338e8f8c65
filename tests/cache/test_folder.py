"""The folder of a cache: nothing outside it is removed, overwritten, created or read."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from forebay import StoreError
from forebay.cache import Removal
from forebay.cache._folder import UnsafePathError
from tests.cache.tools import opened, write_file

OTHER_USER = 65534
NAME = "0" * 64
"""A name that the file of an artifact may have."""

FOLDERS = ["artifacts", "artifacts/partial", "artifacts/00", "artifacts/ff"]
FILES = ["cache.lock", "cache.db", "cache.db-wal", "cache.db-shm"]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder with files, some of which have names that the cache removes."""
    outside = tmp_path / "outside"
    (outside / "00").mkdir(parents=True)
    (outside / "partial").mkdir()
    for path in ("file", NAME, f"00/{NAME}", "partial/left"):
        (outside / path).write_text("precious")
    return outside


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


async def assert_refused(folder: Path, *words: str) -> None:
    """Assert that a folder cannot be opened as a cache, and that the error has these words."""
    with pytest.raises(StoreError) as caught:
        async with opened(folder):
            raise AssertionError
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("name", FOLDERS)
async def test_a_folder_that_is_a_symbolic_link_is_refused(
    tmp_path: Path, outside: Path, name: str
) -> None:
    """The error has the path of the link. The files in the other folder are unchanged."""
    before = contents(outside)
    link = tmp_path / "cache" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    await assert_refused(tmp_path / "cache", f"'{link}' is a symbolic link", "remove it")
    assert before == contents(outside)


@pytest.mark.parametrize("target", ["file", "new"])
@pytest.mark.parametrize("name", FILES)
async def test_a_file_that_is_a_symbolic_link_is_refused(
    tmp_path: Path, outside: Path, name: str, target: str
) -> None:
    """The target is not opened, and not created if it does not exist."""
    before = contents(outside)
    link = tmp_path / "cache" / name
    link.parent.mkdir()
    link.symlink_to(outside / target)
    await assert_refused(tmp_path / "cache", f"'{link}' is a symbolic link", "remove it")
    assert before == contents(outside)


@pytest.mark.parametrize("name", FOLDERS)
async def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    """The error has its path."""
    path = tmp_path / "cache" / name
    path.parent.mkdir(parents=True)
    path.touch()
    await assert_refused(tmp_path / "cache", f"'{path}' is not a folder", "remove it")


@pytest.mark.parametrize("name", FILES)
async def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path, name: str) -> None:
    """The error has its path."""
    path = tmp_path / "cache" / name
    path.mkdir(parents=True)
    await assert_refused(tmp_path / "cache", f"'{path}' is not a regular file", "remove it")


def as_other_user(*command: str, cwd: Path) -> None:
    subprocess.run(command, check=True, cwd=cwd, user=OTHER_USER, group=OTHER_USER, extra_groups=[])


@pytest.fixture
def sticky(tmp_path: Path) -> Path:
    """A folder like `/tmp`: every user may create files, and remove only their own."""
    sticky = tmp_path / "sticky"
    sticky.mkdir()
    sticky.chmod(0o1777)
    return sticky


@pytest.mark.root
@pytest.mark.parametrize("kind", ["folder", "file", "link"])
@pytest.mark.parametrize("name", ["artifacts", *FILES])
async def test_a_path_of_another_user_in_a_sticky_folder_is_refused(
    sticky: Path, outside: Path, name: str, kind: str
) -> None:
    """The error has its path, and nothing that another user can change is used."""
    before = contents(outside)
    commands = {
        "folder": ("mkdir", "-m", "777"),
        "file": ("touch",),
        "link": ("ln", "-s", str(outside)),
    }
    as_other_user(*commands[kind], name, cwd=sticky)
    await assert_refused(sticky, f"'{sticky / name}' ", "remove it")
    assert before == contents(outside)
    if kind == "folder":
        assert [] == list((sticky / name).iterdir())
    if kind == "file":
        assert b"" == (sticky / name).read_bytes()


@pytest.mark.root
@pytest.mark.parametrize("name", ["artifacts/partial", "artifacts/00", "artifacts/ff"])
async def test_a_subfolder_of_another_user_is_refused(tmp_path: Path, name: str) -> None:
    """It is refused even if the folder around it belongs to this user."""
    path = tmp_path / "cache" / name
    path.mkdir(parents=True)
    os.chown(path, OTHER_USER, OTHER_USER)
    await assert_refused(
        tmp_path / "cache",
        f"'{path}' belongs to user {OTHER_USER}, but this process runs as user 0",
    )


@pytest.mark.root
async def test_a_sticky_folder_of_the_superuser_can_be_used(sticky: Path) -> None:
    """Other users may create files in it, but cannot move the folders of the cache."""
    as_other_user("touch", "theirs", cwd=sticky)
    async with opened(sticky) as cache:
        await write_file(cache, "a", 1)
        await cache.artifacts.track_access("a")
        with pytest.raises(subprocess.CalledProcessError):
            as_other_user("mv", "artifacts", "moved", cwd=sticky)
    async with opened(sticky) as cache:
        assert {"a"} == await cache.artifacts.existing_keys(["a"])
        assert 1 == await cache.files.size("a")
    assert (sticky / "theirs").exists()


@pytest.mark.root
@pytest.mark.parametrize("linked", [False, True])
async def test_a_folder_or_a_link_of_another_user_is_refused(
    tmp_path: Path, sticky: Path, *, linked: bool
) -> None:
    """Only this user and the superuser may own the folder of a cache, or a link to it."""
    if linked:
        (tmp_path / "real").mkdir()
        as_other_user("ln", "-s", str(tmp_path / "real"), "cache", cwd=sticky)
    else:
        as_other_user("mkdir", "cache", cwd=sticky)
    await assert_refused(sticky / "cache", f"'{sticky / 'cache'}' belongs to user {OTHER_USER}")
    assert [] == list((tmp_path / "real" if linked else sticky / "cache").iterdir())


async def test_the_path_of_a_cache_may_be_a_link_of_this_user(tmp_path: Path) -> None:
    """The paths of the files are those of the target of the link."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    async with opened(tmp_path / "link") as cache:
        await write_file(cache, "a", 1)
        assert tmp_path / "real" / "artifacts" in cache.files.path("a").parents
    assert (tmp_path / "real" / "cache.db").is_file()


async def test_a_relative_path_is_made_absolute_at_the_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `chdir` the cache continues to use its folder, and creates nothing in the new one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    async with opened(Path("cache")) as cache:
        monkeypatch.chdir(tmp_path / "elsewhere")
        await write_file(cache, "a", 1)
        await cache.artifacts.track_access("a")
        await cache.flush()
        assert tmp_path / "cache" / "artifacts" in cache.files.path("a").parents
        assert 1 == await cache.files.size("a")
        assert {"a"} == await cache.artifacts.existing_keys(["a"])
    assert [] == list((tmp_path / "elsewhere").iterdir())
    async with opened(tmp_path / "cache") as cache:
        assert {"a"} == await cache.artifacts.existing_keys(["a"])


@pytest.mark.parametrize("dangling", [False, True])
async def test_a_link_in_place_of_an_artifact_is_removed_and_frees_nothing(
    tmp_path: Path, outside: Path, *, dangling: bool
) -> None:
    """Only regular files have a size, and the target of a link is unchanged."""
    before = contents(outside)
    async with opened(tmp_path / "cache") as cache:
        await write_file(cache, "a", 1)
        path = cache.files.path("a")
        path.unlink()
        path.symlink_to(outside / ("new" if dangling else "file"))
        assert await cache.files.size("a") is None
        await cache.artifacts.track_access("a")
        assert [None] == [artifact.size_bytes for artifact in await cache.artifacts.oldest()]
        assert Removal(freed={"a": 0}, failed={}) == await cache.artifacts.delete(["a"])
        assert not path.is_symlink()
        assert set() == await cache.artifacts.existing_keys(["a"])
    assert before == contents(outside)


async def test_opening_removes_links_among_the_artifacts(
    tmp_path: Path, outside: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It removes dangling links, and links in place of the file of an artifact with a row."""
    before = contents(outside)
    async with opened(tmp_path / "cache") as cache:
        for key in ("file", "new", "b"):
            await write_file(cache, key, 1)
            await cache.artifacts.track_access(key)
        links = [cache.files.path("file"), cache.files.path("new")]
    for link in links:
        link.unlink()
        link.symlink_to(outside / ("file" if link == links[0] else "new"))
    partial = tmp_path / "cache" / "artifacts" / "partial" / "left"
    partial.symlink_to(outside)
    async with opened(tmp_path / "cache") as cache:
        assert [False, False, False] == [path.is_symlink() for path in (*links, partial)]
        assert 1 == await cache.files.size("b")
    assert "removed 2 files without a row, of 0 bytes" in caplog.text
    assert before == contents(outside)


async def test_a_subfolder_that_becomes_a_link_is_not_followed(
    tmp_path: Path, outside: Path
) -> None:
    """Nothing is read, removed or written through a link that appears while the cache is open."""
    async with opened(tmp_path / "cache") as cache:
        await write_file(cache, "a", 1)
        await cache.artifacts.track_access("a")
        path = cache.files.path("a")
        (outside / path.name).write_text("precious")
        before = contents(outside)
        path.unlink()
        path.parent.rmdir()
        path.parent.symlink_to(outside)
        assert await cache.files.size("a") is None
        removal = await cache.artifacts.delete(["a"])
        assert {} == removal.freed
        assert f"'{path.parent}' is a symbolic link" in str(removal.failed["a"])
        assert {"a"} == await cache.artifacts.existing_keys(["a"])
        with pytest.raises(OSError, match="is a symbolic link") as caught:
            async with cache.files.writing("a"):
                pass
        assert str(path.parent) == caught.value.filename
        assert [] == list((tmp_path / "cache" / "artifacts" / "partial").iterdir())
    assert before == contents(outside)


def pickled(error: UnsafePathError) -> UnsafePathError:
    return cast("UnsafePathError", pickle.loads(pickle.dumps(error)))  # noqa: S301  # pickled here


@pytest.mark.parametrize("copied", [copy.copy, pickled])
def test_the_error_of_an_unsafe_path_can_be_copied(
    copied: Callable[[UnsafePathError], UnsafePathError],
) -> None:
    """`copy` and `pickle` keep its path and its reason."""
    error = UnsafePathError(Path("/folder"), "is a symbolic link")
    assert (str(error), error.filename, error.errno) == (
        str(copied(error)),
        copied(error).filename,
        copied(error).errno,
    )
