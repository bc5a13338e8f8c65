"""`CacheArtifacts.reading` while others replace the artifact."""

from __future__ import annotations

from pathlib import Path

import trio

from tests.cache.tools import opened


async def test_an_artifact_that_is_replaced_is_never_missing(tmp_path: Path) -> None:
    """Each read finds the older artifact or the newer one, with the digest of what it returns."""
    contents = [bytes([number]) * (1000 + number) for number in range(8)]
    found: set[bytes | None] = set()
    async with opened(tmp_path / "cache") as cache:
        await cache.artifacts.store("a", contents[0])

        async def write(content: bytes) -> None:
            for _ in range(20):
                await cache.artifacts.store("a", content)

        async def read() -> None:
            while True:
                async with cache.artifacts.reading("a") as reader:
                    found.add(None if reader is None else reader.content)

        async with trio.open_nursery() as readers:
            for _ in range(4):
                readers.start_soon(read)
            async with trio.open_nursery() as writers:
                for content in contents:
                    writers.start_soon(write, content)
            readers.cancel_scope.cancel()
    assert found <= set(contents)
