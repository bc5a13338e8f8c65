"""`ArtifactFiles`: one file per artifact, written whole or not at all."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path
from typing import Any

import pytest
import trio

from forebay.cache import ArtifactFiles
from tests.cache.tools import ODD_TEXTS, opened, write_file


@pytest.mark.parametrize("key", [*ODD_TEXTS, "..", ".", "/etc/passwd", "a/../../b", "~", "CON"])
def test_a_file_is_in_the_folder_for_every_key(key: str) -> None:
    """Every file system accepts the name, and it does not lead out of the folder."""
    folder = Path("folder")
    path = ArtifactFiles(folder).path(key)
    assert folder == path.parent.parent
    assert path.name.isalnum()
    assert path.name.islower() or path.name.isdigit()


def test_no_two_keys_share_a_file() -> None:
    """Keys that differ only in case, in a slash or in a prefix have different files."""
    files = ArtifactFiles(Path("folder"))
    keys = ["a", "A", "a/", "a/b", "a//b", "a/./b", "é", "e\u0301", *ODD_TEXTS]
    assert len(keys) == len({files.path(key) for key in keys})


async def test_a_file_is_written_whole(tmp_path: Path) -> None:
    """The key has its old file until the block ends, and then the new one."""
    async with opened(tmp_path) as cache:
        await write_file(cache, "a", 1)
        with cache.files.path("a").open("rb") as reading:
            async with cache.files.writing("a") as path:
                path.write_bytes(b"new")
                assert 1 == await cache.files.size("a")
            # A program that has the old file open can still read it.
            assert b"\0" == reading.read()
        assert b"new" == cache.files.path("a").read_bytes()
        assert not path.exists()


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_file_that_is_not_finished_leaves_nothing(
    tmp_path: Path, *, cancelled: bool
) -> None:
    """A block that raises or is cancelled changes no file, and its temporary file is removed."""
    async with opened(tmp_path) as cache:
        await write_file(cache, "a", 1)
        try:
            with trio.CancelScope() as scope:
                async with cache.files.writing("a") as path:
                    path.write_bytes(b"new")
                    if cancelled:
                        scope.cancel()
                        await trio.lowlevel.checkpoint()
                    raise KeyError  # noqa: TRY301  # the error of the body
        except KeyError:
            assert not cancelled
        assert not path.exists()
        assert 1 == await cache.files.size("a")


async def test_unfinished_files_of_a_crash_are_removed(tmp_path: Path) -> None:
    """Opening a cache removes the files that were being written when the last process ended."""
    async with opened(tmp_path) as cache:
        await write_file(cache, "a", 1)
        await cache.artifacts.track_access("a")
    left = tmp_path / "artifacts" / "partial" / "left"
    left.write_bytes(b"x")
    async with opened(tmp_path) as cache:
        assert not left.exists()
        assert 1 == await cache.files.size("a")


@pytest.mark.parametrize(
    ("key", "error", "words"),
    [
        ("", ValueError, "keys? must not be empty"),
        ("a\ud800", ValueError, "surrogate pair at position 1"),
        (7, TypeError, "keys? must be str, got 7 of type int"),
        (None, TypeError, "keys? must be str, got None"),
    ],
)
async def test_an_invalid_key_is_refused(
    tmp_path: Path, key: Any, error: type[Exception], words: str
) -> None:
    """Nothing is written, and concurrent calls for other keys succeed."""
    async with opened(tmp_path) as cache:
        await write_file(cache, "a", 1)
        with pytest.raises(error, match=words):
            async with cache.files.writing(key):
                raise AssertionError
        with pytest.raises(error, match=words):
            cache.files.path(key)
        with pytest.raises(error, match=words):
            await cache.files.remove(["a", key])

        sizes: list[int | None] = []

        async def ask() -> None:
            sizes.append(await cache.files.size("a"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
            with pytest.raises(error, match=words):
                await cache.files.size(key)
        assert [1, 1] == sizes
        assert [] == list((tmp_path / "artifacts" / "partial").iterdir())


async def test_files_are_closed_with_the_cache(tmp_path: Path) -> None:
    """After the block nothing is written or removed, even if the write began within it."""
    async with opened(tmp_path) as cache:
        await write_file(cache, "a", 1)
        begun = cache.files.writing("b")
        path = await begun.__aenter__()
    with pytest.raises(trio.ClosedResourceError, match="open_cache block"):
        await begun.__aexit__(None, None, None)
    assert not path.exists()
    assert not cache.files.path("b").exists()
    with pytest.raises(trio.ClosedResourceError, match="open_cache block"):
        async with cache.files.writing("c"):
            raise AssertionError
    with pytest.raises(trio.ClosedResourceError, match="open_cache block"):
        await cache.files.remove(["a"])
    assert cache.files.path("a").exists()


async def test_without_free_file_descriptors_sizes_are_known_and_no_file_is_removed(
    tmp_path: Path,
) -> None:
    """A file is not taken for a missing one, and each error is in the result."""
    async with opened(tmp_path) as cache:
        await write_file(cache, "a", 1)
        await cache.files.size("a")  # starts a thread, which needs no descriptor later
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            size, removal = await cache.files.size("a"), await cache.files.remove(["a", "b"])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert 1 == size
        assert {} == removal.freed
        assert {"a": errno.EMFILE, "b": errno.EMFILE} == {
            key: error.errno for key, error in removal.failed.items()
        }
        assert 1 == await cache.files.size("a")


async def test_the_usage_of_the_disk_is_the_one_of_df(tmp_path: Path) -> None:
    """The blocks that are reserved for the superuser are neither used nor free."""
    async with opened(tmp_path) as cache:
        usage = await cache.files.disk_usage()
        disk = os.statvfs(tmp_path)
        assert usage.used + disk.f_bavail * disk.f_frsize == pytest.approx(usage.limit, rel=0.01)
        assert usage.limit <= disk.f_blocks * disk.f_frsize
