"""Does the time per item stay the same when there are 100 times as many items?

The operations, each on 1,000 and on 100,000 items (10,000 in the short run): list dead letters;
replay all, all by their ids, and all while the table refuses each again; purge them; commit a batch
of which the table refuses every 100th row, which forebay finds by bisection; evict artifacts, their
files and their rows, from a cache. An operation is linear if its ratio is about 1.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final, NamedTuple

import trio

import forebay
from benchmarks.harness import Case, Contestant
from benchmarks.results import Measure
from forebay import dead_letters
from forebay.cache import CacheOptions, open_cache

TIME_PER_ITEM = Measure("time per item", "s", more_is_better=False)


class Item(NamedTuple):
    number: int
    text: str


ITEMS: Final = forebay.Table(Item, name="items", key="number")

_REFUSE: Final = (
    "CREATE TRIGGER refuse BEFORE INSERT ON items WHEN NEW.number % {} = 0 "
    "BEGIN SELECT RAISE(ABORT, 'refused by the benchmark'); END"
)
"""A trigger that refuses every n-th row; n is to be formatted in."""

_REFUSED_EVERY: Final = 100
"""Every 100th row of the batch is refused."""

_KEYS: Final = [f"account/project/{number:06d}" for number in range(100_000)]
"""The keys of the artifacts."""

Operation = Callable[[forebay.SqliteStore, int], Awaitable[None]]


def cases(full: bool) -> Iterator[Case]:
    sizes = (1_000, 100_000) if full else (1_000, 10_000)
    with TemporaryDirectory(prefix="forebay-bench-") as folder:
        templates = Path(folder)
        for name, contestants in (
            ("list", [_of_letters(_list, size, size, templates) for size in sizes]),
            ("replay", [_of_letters(_replay, size, 0, templates) for size in sizes]),
            ("replay by id", [_of_letters(_replay_by_id, size, 0, templates) for size in sizes]),
            (
                "replay, refused again",
                [_of_letters(_replay_refused, size, size, templates) for size in sizes],
            ),
            ("purge", [_of_letters(_purge, size, 0, templates) for size in sizes]),
            ("bisection", [_bisection(size) for size in sizes]),
            ("eviction", [_eviction(size, templates) for size in sizes]),
        ):
            yield Case("proportion", name, [TIME_PER_ITEM], contestants, rounds=3 if full else 5)


def _of_letters(operation: Operation, size: int, left: int, templates: Path) -> Contestant:
    """Return the contestant that does something with `size` dead letters and leaves `left`."""

    def prepare(path: Path) -> None:
        template = templates / f"{size}.db"
        if not template.exists():
            trio.run(_make_letters, template, size)
        shutil.copyfile(template, path)
        if operation is not _replay_refused:
            with closing(sqlite3.connect(path)) as raw:
                raw.execute("DROP TRIGGER refuse")

    def run(path: Path) -> Mapping[str, float]:
        async def main() -> float:
            async with forebay.open_sqlite(path) as store:
                started = perf_counter()
                await operation(store, size)
                return perf_counter() - started

        return {"time per item": trio.run(main) / size}

    return Contestant(f"{size:,} items", run, partial(_check_letters, left), prepare)


async def _make_letters(path: Path, size: int) -> None:
    # Small batches: where all rows are refused, a batch of n takes n log n statements.
    options = forebay.BufferOptions(batch_size=10, dead_letters_per_minute=None)
    async with forebay.open_sqlite(path, create=[ITEMS]) as store:
        await store.run(_execute, _REFUSE.format(1))
        async with forebay.open_buffers(store, ITEMS, options=options) as buffers:
            await buffers[ITEMS].enqueue_many(_rows(size))
            await buffers.flush()


def _execute(raw: sqlite3.Connection, sql: str) -> None:
    raw.execute(sql)


def _rows(size: int) -> Iterator[Item]:
    return (Item(number, f"text of item {number}") for number in range(size))


async def _list(store: forebay.SqliteStore, size: int) -> None:
    letters = await dead_letters.fetch(store)
    if len(letters) != size:
        raise AssertionError(f"expected {size} dead letters, found {len(letters)}")


async def _replay(store: forebay.SqliteStore, size: int) -> None:
    result = await dead_letters.replay(store)
    if len(result.replayed) != size:
        raise AssertionError(f"expected {size} replayed dead letters, found {result}")


async def _replay_by_id(store: forebay.SqliteStore, size: int) -> None:
    ids = [letter.id for letter in await dead_letters.fetch(store)]
    result = await dead_letters.replay(store, ids=ids)
    if len(result.replayed) != size:
        raise AssertionError(f"expected {size} replayed dead letters, found {result}")


async def _replay_refused(store: forebay.SqliteStore, size: int) -> None:
    result = await dead_letters.replay(store)
    if len(result.refused) != size:
        raise AssertionError(f"expected {size} dead letters refused again, found {result}")


async def _purge(store: forebay.SqliteStore, size: int) -> None:
    purged = await dead_letters.purge(store, buffer=ITEMS.name)
    if purged != size:
        raise AssertionError(f"expected {size} purged dead letters, found {purged}")


def _check_letters(expected: int, path: Path) -> None:
    found = _count(path, "forebay_dead_letters")
    if found != expected:
        raise AssertionError(f"expected {expected} dead letters, found {found}")


def _count(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as raw:
        [(count,)] = raw.execute(f"SELECT count(*) FROM {table}")
        return int(count)


def _bisection(size: int) -> Contestant:
    """Return the contestant that commits one batch of `size` rows."""
    refused = size // _REFUSED_EVERY

    def prepare(path: Path) -> None:
        async def main() -> None:
            async with forebay.open_sqlite(path, create=[ITEMS]) as store:
                await store.run(_execute, _REFUSE.format(_REFUSED_EVERY))

        trio.run(main)

    def run(path: Path) -> Mapping[str, float]:
        # Only the call of `flush` makes a flush due.
        options = forebay.BufferOptions(
            capacity=2 * size,
            batch_size=2 * size,
            flush_interval=inf,
            dead_letters_per_minute=None,
        )

        async def main() -> float:
            async with (
                forebay.open_sqlite(path) as store,
                forebay.open_buffers(store, ITEMS, options=options) as buffers,
            ):
                await buffers[ITEMS].enqueue_many(_rows(size))
                started = perf_counter()
                await buffers.flush()
                return perf_counter() - started

        return {"time per item": trio.run(main) / size}

    def check(path: Path) -> None:
        _check_letters(refused, path)
        if (found := _count(path, ITEMS.name)) != size - refused:
            raise AssertionError(f"expected {size - refused} rows, found {found}")

    return Contestant(f"{size:,} items", run, check, prepare)


def _eviction(size: int, templates: Path) -> Contestant:
    """Return the contestant that evicts all of `size` artifacts; its path is a folder."""

    def prepare(path: Path) -> None:
        template = templates / f"cache of {size}"
        if not template.exists():
            trio.run(_make_cache, template, size)
        shutil.copytree(template, path, copy_function=shutil.copyfile)

    def run(path: Path) -> Mapping[str, float]:
        options = CacheOptions(
            budget_bytes=1, high_watermark=1.0, target=0.0, eviction_interval=inf
        )

        async def main() -> float:
            async with open_cache(path, options=options) as cache:
                started = perf_counter()
                done = await cache.evictor.run_once()
                await cache.flush()
                taken = perf_counter() - started
            if done.removed != size:
                raise AssertionError(f"expected {size} evicted artifacts, found {done}")
            return taken

        return {"time per item": trio.run(main) / size}

    def check(path: Path) -> None:
        if found := _count(path / "cache.db", "cas_artifacts"):
            raise AssertionError(f"expected no artifacts, found {found}")

    return Contestant(f"{size:,} items", run, check, prepare)


async def _make_cache(path: Path, size: int) -> None:
    keys = iter(_KEYS[:size])
    async with open_cache(path, options=CacheOptions(eviction_interval=inf)) as cache:

        async def add() -> None:
            for key in keys:
                file = cache.files.path(key)
                file.parent.mkdir(exist_ok=True)
                file.write_bytes(b"artifact")
                await cache.artifacts.track_access(key)

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(add)
        await cache.flush()
