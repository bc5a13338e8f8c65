"""`Cache.delete_project` deletes everything of a project, and nothing of another."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from forebay.cache import Cache, ProjectDeletion, TransferType
from tests.cache.tools import FakeStorage, opened, until, write_file

PROJECTS = [("acme", "app"), ("acme", "app2"), ("acme", "ap"), ("other", "app"), ("a:c", "m%e")]


async def add(cache: Cache, account: str, project: str, number: int = 1) -> None:
    """Add artifacts, their uploads, a download, and values to a project."""
    for n in range(number):
        key = f"{account}/{project}/{n}"
        await write_file(cache, key, 10)
        await cache.artifacts.track_access(key)
        await cache.transfers.enqueue_upload(account, project, "cas", key)
        await cache.key_values.put(f"id{n}", account, project, [key])
        await cache.key_values.put_bytes(f"bytes{n}", account, project, b"x")
    await cache.transfers.enqueue_download(account, project, "cas", f"{account}/{project}/down")


async def content(cache: Cache, account: str, project: str, number: int = 1) -> list[object]:
    """Return what a project has, before and after a flush of everything."""
    keys = [f"{account}/{project}/{n}" for n in range(number)]
    queued = [
        transfer
        for kind in TransferType
        for transfer in await cache.transfers.pending(kind, 10_000)
        if (transfer.account_handle, transfer.project_handle) == (account, project)
    ]
    values = [
        value
        for n in range(number)
        for value in (
            await cache.key_values.get(f"id{n}", account, project),
            await cache.key_values.get_bytes(f"bytes{n}", account, project),
        )
        if value is not None
    ]
    files = [key for key in keys if cache.files.path(key).exists()]
    return [*queued, *values, *files, *sorted(await cache.artifacts.existing_keys(keys))]


@pytest.mark.parametrize("memory_bytes", [0, 10**7])
@pytest.mark.parametrize("flushed", [False, True])
async def test_everything_of_a_project_is_deleted(
    tmp_path: Path, mock_clock: MockClock, memory_bytes: int, flushed: bool
) -> None:
    """Artifacts, values, and queued transfers of both directions; flushed or not."""
    del mock_clock
    async with opened(tmp_path, memory_bytes=memory_bytes) as cache:
        for account, project in PROJECTS:
            await add(cache, account, project, 3)
        if flushed:
            await cache.flush()
        for number, (account, project) in enumerate(PROJECTS):
            assert 16 == len(await content(cache, account, project, 3))
            deleted = await cache.delete_project(account, project)
            assert ProjectDeletion(artifacts=3, key_values=6, transfers=4) == deleted
            assert [] == await content(cache, account, project, 3)
            for other in PROJECTS[number + 1 :]:
                assert 16 == len(await content(cache, *other, 3))
        assert ProjectDeletion(0, 0, 0) == await cache.delete_project("acme", "app")
        await cache.flush()
        for table in ("cas_artifacts", "s3_transfers", "key_value_entries"):
            rows = await cache.store.fetch_all(f"SELECT * FROM {table}")  # noqa: S608  # a name
            assert [] == rows


async def test_a_large_project_is_deleted_in_batches(tmp_path: Path) -> None:
    """More of each than one batch has. It takes no transaction of its own."""
    async with opened(tmp_path, memory_bytes=0) as cache:
        for n in range(1_203):
            await cache.key_values.put_bytes(f"id{n}", "acme", "app", b"")
            await cache.transfers.enqueue_upload("acme", "app", "cas", f"acme/app/{n}")
        await add(cache, "acme", "app2")
        deleted = await cache.delete_project("acme", "app")
        assert ProjectDeletion(artifacts=0, key_values=1_203, transfers=1_203) == deleted
        assert ProjectDeletion(1, 2, 2) == await cache.delete_project("acme", "app2")


async def test_a_project_is_deleted_while_the_database_is_locked(tmp_path: Path) -> None:
    """What is committed and what is in memory is deleted; it does not wait for the lock."""
    async with opened(tmp_path) as cache:
        await add(cache, "acme", "app")
        await cache.flush()
        await cache.key_values.put("pending", "acme", "app", ["x"])
        other = sqlite3.connect(tmp_path / "cache.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with trio.fail_after(20), closing(other):
            deleted = await cache.delete_project("acme", "app", flush_timeout=0.01)
            assert ProjectDeletion(artifacts=1, key_values=3, transfers=2) == deleted
            assert [] == await cache.transfers.pending("upload", 10, flush_timeout=0.01)
            assert await cache.key_values.get("pending", "acme", "app") is None
            assert await cache.key_values.get("id0", "acme", "app") is None
        assert [] == await content(cache, "acme", "app")
        assert await cache.key_values.get("pending", "acme", "app") is None


async def test_a_download_of_a_deleted_project_is_discarded(tmp_path: Path) -> None:
    """Its file would come back after the deletion."""
    storage = FakeStorage()
    storage.stop()
    storage.objects["acme/app/down"] = b"x"
    async with opened(tmp_path, storage=storage) as cache:
        assert cache.transfer_worker is not None
        await cache.transfers.enqueue_download("acme", "app", "cas", "acme/app/down")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cache.transfer_worker.run_once)
            await until(lambda: storage.running == 1)
            assert ProjectDeletion(0, 0, 1) == await cache.delete_project("acme", "app")
            storage.gate.set()
        assert not cache.files.path("acme/app/down").exists()
        assert set() == await cache.artifacts.existing_keys(["acme/app/down"])


@pytest.mark.parametrize(
    ("account", "project", "seconds", "error"),
    [
        ("", "app", 1.0, ValueError),
        ("acme", "", 1.0, ValueError),
        ("acme/app", "x", 1.0, ValueError),
        ("acme", "a/b", 1.0, ValueError),
        (None, "app", 1.0, TypeError),
        ("acme", b"app", 1.0, TypeError),
        ("acme", "app", -1, ValueError),
        ("acme", "app", math.nan, ValueError),
        ("acme", "app", "1", TypeError),
    ],
)
async def test_invalid_arguments_delete_nothing(
    tmp_path: Path, account: Any, project: Any, seconds: Any, error: type[Exception]
) -> None:
    """They are checked before the first part is deleted."""
    async with opened(tmp_path) as cache:
        await cache.transfers.enqueue_upload("acme/app", "x", "cas", "k")
        await add(cache, "acme", "app")
        with pytest.raises(error, match=r"^(account|project|flush_timeout) "):
            await cache.delete_project(account, project, flush_timeout=seconds)
        assert 6 == len(await content(cache, "acme", "app"))
        assert 2 == len(await cache.transfers.pending("upload", 10))


async def test_a_closed_cache_deletes_no_project(tmp_path: Path) -> None:
    """As every call of its stores."""
    async with opened(tmp_path) as cache:
        await add(cache, "acme", "app")
    with pytest.raises(trio.ClosedResourceError):
        await cache.delete_project("acme", "app")
    async with opened(tmp_path) as cache:
        assert 6 == len(await content(cache, "acme", "app"))
