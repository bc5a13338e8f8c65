"""Artifacts whose upload is cancelled, killed, or refused by the disk are whole, or not there."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from forebay.cache import Cache
from tests.cache.tools import content_of, opened, pieces


class CancelAfter(trio.abc.Instrument):
    """Cancels a scope after a number of steps of the task that created it."""

    def __init__(self, steps: int) -> None:
        self.scope = trio.CancelScope()
        self._left = steps
        self._task = trio.lowlevel.current_task()
        if steps == 0:
            self.scope.cancel()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self._left -= 1
            if self._left == 0:
                self.scope.cancel()


@contextmanager
def cancelled_after(steps: int) -> Iterator[trio.CancelScope]:
    instrument = CancelAfter(steps)
    trio.lowlevel.add_instrument(instrument)
    try:
        with instrument.scope:
            yield instrument.scope
    finally:
        trio.lowlevel.remove_instrument(instrument)


def files_of(directory: Path) -> set[Path]:
    return {path for path in (directory / "artifacts").rglob("*") if path.is_file()}


@pytest.mark.parametrize("size", [10, 200_000])
@pytest.mark.parametrize("old", [None, b"the old content"])
async def test_a_store_that_is_cancelled_has_stored_nothing(
    tmp_path: Path, size: int, old: bytes | None
) -> None:
    """At each step: if it returns, its content is stored, and otherwise all is as before."""
    new = os.urandom(size)
    expected: dict[str, bytes | None] = {}
    async with opened(tmp_path) as cache:
        for steps in range(1_000):
            key = str(steps)
            if old is not None:
                await cache.artifacts.store(key, old)
            returned = False
            with cancelled_after(steps) as scope:
                await cache.artifacts.store(key, pieces(new, 50_000), size=size)
                returned = True
            expected[key] = new if returned else old
            assert expected[key] == await content_of(cache, key)
            if not scope.cancel_called:
                break
        assert {new, old} == set(expected.values())
    async with opened(tmp_path) as cache:
        for key, content in expected.items():
            assert content == await content_of(cache, key)
        there = {key for key, content in expected.items() if content is not None}
        assert there == await cache.artifacts.existing_keys(sorted(expected))
        assert {cache.files.path(key) for key in there} == files_of(tmp_path)


async def test_a_store_that_is_cancelled_while_threads_are_busy_changes_all_or_nothing(
    tmp_path: Path,
) -> None:
    """A store that waits for a thread is not cancelled any more, since its row is accepted."""
    draw = random.Random(17)
    expected = {str(i): b"old content" for i in range(300)}

    async def store(cache: Cache, key: str) -> None:
        steps = draw.randrange(8)
        async with trio.open_nursery() as nursery:
            if steps == 0:
                nursery.cancel_scope.cancel()
            nursery.start_soon(cancel_after, steps, nursery.cancel_scope)
            await cache.artifacts.store(key, b"new content")
            expected[key] = b"new content"
            nursery.cancel_scope.cancel()

    async def cancel_after(steps: int, scope: trio.CancelScope) -> None:
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    async with opened(tmp_path) as cache:
        for key, content in expected.items():
            await cache.artifacts.store(key, content)
        async with trio.open_nursery() as nursery:
            for key in expected:
                nursery.start_soon(store, cache, key)
        assert expected == {key: await content_of(cache, key) for key in expected}
        assert {b"old content", b"new content"} == set(expected.values())


def descriptors() -> int:
    """Return how many files are open, where the system says so."""
    folder = Path("/proc/self/fd")
    return sum(1 for _ in folder.iterdir()) if folder.exists() else 0


@pytest.mark.parametrize("known", [True, False])
async def test_a_read_that_is_cancelled_leaves_no_file_open(
    tmp_path: Path, known: bool
) -> None:  # a parameter of the test
    """At each step, also while another task makes the call for both."""
    content = os.urandom(100)
    async with opened(tmp_path, known_artifacts=1) as cache:
        await cache.artifacts.store("a", content)
        if not known:
            await cache.artifacts.store("b", content)
        await content_of(cache, "a")
        before = descriptors()
        outcomes = set()
        for steps in range(1_000):
            if not known:
                await content_of(cache, "b")
            returned = False
            with cancelled_after(steps) as scope:
                assert content == await content_of(cache, "a")
                returned = True
            outcomes.add(returned)
            if not scope.cancel_called:
                break
        assert {True, False} == outcomes

        async def read() -> None:
            with trio.CancelScope() as scope:
                nursery.start_soon(cancel, scope)
                await content_of(cache, "a")

        async def cancel(scope: trio.CancelScope) -> None:
            scope.cancel()

        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(read)
        for _ in range(20):  # each waits for the calls before it
            assert content == await content_of(cache, "a")
        assert before == descriptors()


async def test_a_delete_that_is_cancelled_leaves_an_artifact_whole_or_not_there(
    tmp_path: Path,
) -> None:
    """At each step, and it is safe to repeat."""
    async with opened(tmp_path) as cache:
        seen = set()
        for steps in range(1_000):
            await cache.artifacts.store("a", b"content")
            with cancelled_after(steps) as scope:
                await cache.artifacts.delete(["a"])
            seen.add(await content_of(cache, "a"))
            await cache.artifacts.delete(["a"])
            assert await cache.artifacts.find("a") is None
            if not scope.cancel_called:
                break
        assert {b"content", None} == seen
        assert 0 == await cache.artifacts.total_bytes()


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond a size, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [50_000, 200_000])
@pytest.mark.parametrize("stored_before", [False, True])
async def test_an_upload_that_the_disk_refuses_leaves_no_row_without_its_file(
    tmp_path: Path, size: int, *, stored_before: bool
) -> None:
    """The error is raised. A small upload is refused when its row is accepted, and deletes it."""
    async with opened(tmp_path) as cache:
        if stored_before:
            await cache.artifacts.store("a", b"old")
        with largest_file(20_000), pytest.raises(OSError, match="File too large"):
            await cache.artifacts.store("a", pieces(os.urandom(size), 50_000))
        kept = b"old" if stored_before and size > 65_536 else None
        assert kept == await content_of(cache, "a")
        assert ({"a"} if kept else set()) == await cache.artifacts.existing_keys(["a"])
        assert ({cache.files.path("a")} if kept else set()) == files_of(tmp_path)
        await cache.artifacts.store("a", b"again")
        assert b"again" == await content_of(cache, "a")


UPLOADS = """
import random, sys, trio
from forebay.cache import CacheOptions, open_cache

def content(i, version):
    draw = random.Random(f"{i} {version}")
    return draw.randbytes(draw.choice([0, 10, 4_096, 70_000, 300_000]))

async def pieces(data):
    for start in range(0, len(data), 40_000):
        await trio.sleep(0)
        yield data[start : start + 40_000]

async def main():
    async with open_cache(sys.argv[1], options=CacheOptions(budget_bytes=2**40)) as cache:
        async def store(i, version):
            await cache.artifacts.store(f"k{i}", pieces(content(i, version)))
            print(i, flush=True)
        for i in range(20):
            await store(i, 0)
        await cache.flush()
        async with trio.open_nursery() as nursery:
            for i in range(10, 200):
                nursery.start_soon(store, i, 1)
                nursery.start_soon(store, i, 2)
                if i % 10 == 0:
                    nursery.start_soon(cache.flush)
        await cache.flush()
        await trio.sleep_forever()

trio.run(main)
"""


def content(i: int, version: int) -> bytes:
    draw = random.Random(f"{i} {version}")
    return draw.randbytes(draw.choice([0, 10, 4_096, 70_000, 300_000]))


@pytest.mark.parametrize("lines", [25, 120, 300])
async def test_after_a_kill_an_artifact_is_one_complete_upload_or_not_there(
    tmp_path: Path, lines: int
) -> None:
    """A process is killed during 200 uploads of 10 keys at a time, some of which replace others."""
    with subprocess.Popen(
        [sys.executable, "-c", UPLOADS, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for _ in range(lines):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    found = 0
    async with opened(tmp_path) as cache:
        for i in range(200):
            stored = await content_of(cache, f"k{i}")
            assert stored in {None, *(content(i, version) for version in range(3))}
            found += stored is not None
            if i < 10:
                assert content(i, 0) == stored
        tracked = await cache.artifacts.existing_keys(f"k{i}" for i in range(200))
        assert {cache.files.path(key) for key in tracked} >= files_of(tmp_path)
    assert 10 <= found
