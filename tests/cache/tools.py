"""What the tests of the cache share."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import trio

from forebay.cache import Cache, CacheOptions, MissingError, ObjectStorage, open_cache

# A moment that needs more than 32 bits in any unit: 2024-02-29T12:00:00 UTC, in microseconds.
NOON = 1_709_208_000_000_000
SECOND = 1_000_000

# Workers run when a test says so, and never look at the disk this runs on.
BY_HAND = CacheOptions(eviction_interval=math.inf, transfer_interval=math.inf, budget_bytes=2**62)

ODD_TEXTS = (
    "percent % sign",
    "under_score",
    "new\nline",
    "nul \0 byte",
    "nul at the end\0",
    "quote ' and \" both",
    "back\\slash",
    "Ünïcödé",
    "日本語",
    "\U0001f9d1\u200d\U0001f680",
    "e\u0301 is not \u00e9",
    "\u202eright to left",
    "\uffff\U0010ffff",
    "../../up",
    " ",
    "x" * 5_000,
)


class FakeClock:
    """A clock that stands until it is told."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


def opened(
    directory: Path,
    clock: FakeClock | None = None,
    *,
    storage: ObjectStorage | None = None,
    **changes: object,
) -> AbstractAsyncContextManager[Cache]:
    """Open a cache whose workers run by hand, with some options changed."""
    options = replace(BY_HAND, **changes)  # type: ignore[arg-type]  # the test's own
    return open_cache(directory, storage=storage, options=options, clock=clock or FakeClock())


async def write_file(cache: Cache, key: str, size: int) -> None:
    """Give an artifact a file, with a hole as large as it is to be."""
    async with cache.files.writing(key) as path:
        with path.open("wb") as file:
            file.truncate(size)


async def until(holds: Callable[[], bool]) -> None:
    """Let others run until something holds: for what a thread brings about."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def writer_held(cache: Cache) -> AsyncGenerator[None, None]:
    """Keep the one writer of the file busy, so that no flush can begin."""
    held, release = threading.Event(), threading.Event()

    def hold(_raw: object) -> None:
        held.set()
        release.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cache.store.run, hold)
        await until(held.is_set)
        try:
            yield
        finally:
            release.set()


class FakeStorage:
    """An object storage in memory, scripted by key.

    Attributes:
        objects: the objects' contents.
        raises: what a transfer of a key raises.
        calls: the transfers tried, in order: the way, the key, the time.
        most: how many were under way at once at the most.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.raises: dict[str, BaseException] = {}
        self.calls: list[tuple[str, str, float]] = []
        self.running = 0
        self.most = 0
        self.gate = trio.Event()
        self.gate.set()

    def stop(self) -> None:
        """Let transfers hang until `gate` is set."""
        self.gate = trio.Event()

    @property
    def keys(self) -> list[str]:
        """The keys of the transfers tried, in order."""
        return [key for _, key, _ in self.calls]

    async def _call(self, way: str, key: str) -> None:
        self.calls.append((way, key, trio.current_time()))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
            await trio.lowlevel.checkpoint()
        finally:
            self.running -= 1
        if key in self.raises:
            raise self.raises[key]

    async def upload(self, key: str, path: Path) -> None:
        await self._call("upload", key)
        if not path.exists():
            raise MissingError(key)
        self.objects[key] = path.read_bytes()

    async def download(self, key: str, path: Path) -> None:
        await self._call("download", key)
        if key not in self.objects:
            raise MissingError(key)
        path.write_bytes(self.objects[key])
