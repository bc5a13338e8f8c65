"""The types that type checkers must infer for `forebay.cache`. Checked, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import BinaryIO, assert_type

from forebay import BufferStatistics
from forebay.cache import (
    Artifact,
    ArtifactReader,
    ArtifactStatistics,
    CasArtifact,
    ObjectInfo,
    ObjectStorage,
    Removal,
    S3Transfer,
    TransferStatistics,
    TransferType,
    TransferWorker,
    open_cache,
)
from forebay.cache.s3 import S3Storage, open_s3


class Local:
    """A class with these four methods is an object storage."""

    async def upload(self, transfer: S3Transfer, path: Path, info: ObjectInfo) -> None: ...

    async def download(self, transfer: S3Transfer, path: Path) -> ObjectInfo:
        return ObjectInfo()

    async def exists(self, transfer: S3Transfer) -> bool:
        return transfer.key == ""

    async def delete_project(self, account: str, project: str) -> None: ...


async def storages() -> None:
    local: ObjectStorage = Local()
    async with (
        open_s3("bucket", endpoint_url="http://localhost", region="eu-central-1") as s3,
        open_cache("one", storage=s3),
        open_cache(Path("two"), storage=local, clock=lambda: 0),
    ):
        assert_type(s3, S3Storage)


async def chunks() -> AsyncGenerator[bytes | bytearray, None]:
    yield b"a"
    yield bytearray(b"b")


async def calls() -> None:
    async with open_cache("folder") as cache:
        await cache.key_values.put("id", "acme", "app", (value for value in ("a", "b")))
        assert_type(await cache.key_values.get("id", "acme", "app"), str | None)
        assert_type(await cache.key_values.put_bytes("id", "acme", "app", b"", written_at=0), bool)
        assert_type(await cache.key_values.get_bytes("id", "acme", "app"), bytes | None)
        stored = await cache.artifacts.store("key", b"content", metadata={"tag": "1"})
        assert_type(stored, Artifact)
        await cache.artifacts.store("key", chunks(), size=2, sha256=stored.sha256)
        async with cache.artifacts.reading("key") as reader:
            assert_type(reader, ArtifactReader | None)
            if reader is not None:
                assert_type(reader.file, BinaryIO)
                assert_type(reader.content, bytes | None)
                assert_type(reader.chunks(), AsyncGenerator[bytes, None])
        assert_type(await cache.artifacts.find("key"), Artifact | None)
        assert_type(cache.artifacts.statistics(), ArtifactStatistics)
        assert_type(await cache.vacuum.run_once(2), int)
        await cache.artifacts.track_access("key", size=7)
        oldest = await cache.artifacts.oldest(10)
        assert_type(oldest, list[CasArtifact])
        assert_type(oldest[0].size_bytes, int | None)
        assert_type(await cache.artifacts.existing_keys({"key"}), set[str])
        assert_type(await cache.artifacts.total_bytes(flush_timeout=1), int)
        assert_type(await cache.artifacts.delete(["key"]), Removal)
        assert_type(await cache.artifacts.delete_project("acme", "app", flush_timeout=5.0), int)
        assert_type(await cache.transfers.pending(TransferType.UPLOAD, 10), list[S3Transfer])
        await cache.transfers.pending("download", 10)
        await cache.transfers.delete(transfer.id for transfer in list[S3Transfer]())
        async with cache.files.writing("key") as path:
            assert_type(path, Path)
        assert_type(cache.transfer_worker, TransferWorker | None)
        assert_type(cache.statistics().transfers, TransferStatistics | None)
        assert_type(cache.statistics().buffers["cas_artifacts"], BufferStatistics)
