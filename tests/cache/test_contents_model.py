"""Artifacts behave like a dictionary, whatever calls are made in whatever order."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.cache import Artifact, Cache
from tests.cache.tools import FakeClock, opened

KEYS = st.sampled_from(["acme/app/a", "acme/app/b", "acme/other/a"])
CONTENTS = st.sampled_from([b"", b"first", b"other", b"x" * 70_000, b"y" * 70_000])
METADATA = st.sampled_from([{}, {"tag": "1"}, {"tag": "é", "type": "text"}])


@dataclass(frozen=True)
class Store:
    key: str
    content: bytes
    metadata: dict[str, str]


@dataclass(frozen=True)
class WriteFile:
    """Write a file by other means, and track it."""

    key: str
    content: bytes
    by_size: bool


@dataclass(frozen=True)
class Track:
    key: str


@dataclass(frozen=True)
class Delete:
    key: str


@dataclass(frozen=True)
class DeleteProject:
    pass


@dataclass(frozen=True)
class Flush:
    pass


@dataclass(frozen=True)
class Reopen:
    pass


Step: TypeAlias = Store | WriteFile | Track | Delete | DeleteProject | Flush | Reopen

STEPS = st.one_of(
    st.builds(Store, KEYS, CONTENTS, METADATA),
    st.builds(WriteFile, KEYS, CONTENTS, st.booleans()),
    st.builds(Track, KEYS),
    st.builds(Delete, KEYS),
    st.builds(DeleteProject),
    st.builds(Flush),
    st.builds(Reopen),
)

Expected: TypeAlias = dict[str, tuple[bytes, dict[str, str] | None]]
"""The content and the metadata of each artifact; no metadata if it was written by other means."""


def expected_after(expected: Expected, step: Step) -> None:
    match step:
        case Store(key, content, metadata):
            expected[key] = (content, metadata)
        case WriteFile(key, content):
            expected[key] = (content, None)
        case Delete(key):
            expected.pop(key, None)
        case DeleteProject():
            for key in [key for key in expected if key.startswith("acme/app/")]:
                del expected[key]
        case _:
            pass


async def execute(cache: Cache, step: Step, expected: Expected) -> None:
    match step:
        case Store(key, content, metadata):
            await cache.artifacts.store(key, content, metadata=metadata)
        case WriteFile(key, content, by_size):
            await cache.artifacts.delete([key])
            async with cache.files.writing(key) as path:
                path.write_bytes(content)
            await cache.artifacts.track_access(key, size=len(content) if by_size else None)
        case Track(key):
            if key in expected:
                await cache.artifacts.track_access(key)
        case Delete(key):
            await cache.artifacts.delete([key])
        case DeleteProject():
            await cache.artifacts.delete_project("acme", "app")
        case Flush():
            await cache.flush()
        case Reopen():
            raise AssertionError


async def check(cache: Cache, expected: Expected) -> None:
    for key in ("acme/app/a", "acme/app/b", "acme/other/a"):
        async with cache.artifacts.reading(key) as reader:
            if key not in expected:
                assert reader is None
                continue
            content, metadata = expected[key]
            assert reader is not None
            assert content == reader.file.read()
            digest = None if metadata is None else hashlib.sha256(content).hexdigest()
            assert Artifact(
                key, len(content), digest, metadata or {}, reader.artifact.stored_at
            ) == (reader.artifact)
            assert reader.artifact == await cache.artifacts.find(key)
    assert expected.keys() == await cache.artifacts.existing_keys(list(expected))


async def check_total(cache: Cache, expected: Expected) -> None:
    assert sum(len(content) for content, _ in expected.values()) == (
        await cache.artifacts.total_bytes()
    )


async def run(steps: list[Step]) -> None:
    expected: Expected = {}
    clock = FakeClock()
    left = [*steps, Reopen()]
    with tempfile.TemporaryDirectory() as folder:
        while left:
            async with opened(Path(folder), clock, touch_interval=0.0, known_artifacts=2) as cache:
                await check(cache, expected)
                while left and not isinstance(step := left.pop(0), Reopen):
                    clock.advance(1)
                    await execute(cache, step, expected)
                    expected_after(expected, step)
                    await check(cache, expected)
                await check_total(cache, expected)


@settings(max_examples=settings().max_examples // 4)
@given(st.lists(STEPS, max_size=12))
def test_any_calls_have_the_result_of_a_dictionary(steps: list[Step]) -> None:
    """What is stored is read, with its digest and metadata, before and after a flush or restart."""
    trio.run(run, steps)
