"""Shared helpers of the cache's tests."""

from __future__ import annotations

import hashlib
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import trio

from forebay.cache import (
    Cache,
    CacheOptions,
    MissingError,
    ObjectInfo,
    ObjectStorage,
    S3Transfer,
    TransferType,
    TransferWorker,
    open_cache,
)
from tests.thread_gate import ThreadGate
from tests.waiting import wait_until_async

# 2024-02-29T12:00:00 UTC in microseconds, a time that does not fit into 32 bits.
NOON = 1_709_208_000_000_000
SECOND = 1_000_000

# Workers run only when a test calls them, and ignore the usage of the real disk.
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
    """A clock that a test advances."""

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
    """Open a cache with the options `BY_HAND` and some changes."""
    options = replace(BY_HAND, **changes)  # type: ignore[arg-type]  # names of options
    return open_cache(directory, storage=storage, options=options, clock=clock or FakeClock())


def transfer(key: str, transfer_type: TransferType = TransferType.UPLOAD) -> S3Transfer:
    """Return a transfer of an artifact, as a storage gets it."""
    return S3Transfer(f"id of {key}", transfer_type, "acme", "app", "cas", key, 1, 0, 0)


def worker(cache: Cache) -> TransferWorker:
    """Return the transfer worker of a cache with an object storage."""
    assert cache.transfer_worker is not None
    return cache.transfer_worker


async def write_file(cache: Cache, key: str, size: int) -> None:
    """Create a sparse file of this size for an artifact."""
    async with cache.files.writing(key) as path:
        with path.open("wb") as file:
            file.truncate(size)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def pieces(content: bytes, size: int = 30_000) -> AsyncGenerator[bytes, None]:
    """Yield a content in pieces, with a checkpoint before each one."""
    for start in range(0, len(content), size):
        await trio.lowlevel.checkpoint()
        yield content[start : start + size]


async def content_of(cache: Cache, key: str) -> bytes | None:
    """Read an artifact, and check its digest."""
    async with cache.artifacts.reading(key) as reader:
        if reader is None:
            return None
        content = reader.file.read()
        assert len(content) == reader.artifact.size
        assert sha256(content) == reader.artifact.sha256
        assert reader.content in (None, content)
        return content


async def until(holds: Callable[[], bool]) -> None:
    """Let other tasks run until a condition holds that a thread brings about."""
    await wait_until_async(holds, "the condition of this call", interval=0)


@asynccontextmanager
async def writer_held(cache: Cache) -> AsyncGenerator[None, None]:
    """Keep the writer connection busy during the block, so that no flush can begin."""
    async with trio.open_nursery() as nursery:
        with ThreadGate() as gate:
            nursery.start_soon(cache.store.run, lambda _raw: gate.wait())
            await gate.entered.wait()
            yield


class FakeStorage:
    """An object storage in memory, with scripted errors.

    Attributes:
        objects: the contents of the objects, by key.
        infos: what was kept with the objects, by key.
        raises: the exceptions that transfers raise, by key.
        calls: the transfers that were tried, in order: the type, the key, the time.
        running: how many transfers are in progress.
        most: the highest value of `running` so far.
        gate: transfers wait for this event, which is set at first.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.infos: dict[str, ObjectInfo] = {}
        self.raises: dict[str, BaseException] = {}
        self.calls: list[tuple[str, str, float]] = []
        self.running = 0
        self.most = 0
        self.gate = trio.Event()
        self.gate.set()

    def stop(self) -> None:
        """Make transfers wait until `gate` is set."""
        self.gate = trio.Event()

    @property
    def keys(self) -> list[str]:
        """The keys of the transfers that were tried, in order."""
        return [key for _, key, _ in self.calls]

    async def _call(self, transfer_type: str, key: str) -> None:
        self.calls.append((transfer_type, key, trio.current_time()))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
            await trio.lowlevel.checkpoint()
        finally:
            self.running -= 1
        if key in self.raises:
            raise self.raises[key]

    async def upload(self, transfer: S3Transfer, path: Path, info: ObjectInfo) -> None:
        key = transfer.key
        await self._call("upload", key)
        if not path.exists():
            raise MissingError(key)
        self.objects[key] = path.read_bytes()
        self.infos[key] = info

    async def exists(self, transfer: S3Transfer) -> bool:
        await self._call("exists", transfer.key)
        return transfer.key in self.objects

    async def download(self, transfer: S3Transfer, path: Path) -> ObjectInfo:
        key = transfer.key
        await self._call("download", key)
        if key not in self.objects:
            raise MissingError(key)
        path.write_bytes(self.objects[key])
        return self.infos.get(key, ObjectInfo())

    async def delete_project(self, account: str, project: str) -> None:
        prefix = f"{account}/{project}/"
        await self._call("delete", prefix)
        for key in [key for key in self.objects if key.startswith(prefix)]:
            del self.objects[key]
