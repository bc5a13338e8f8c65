"""Ctrl-C at function calls while a file, a cache, a socket or an export is opened or closed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from forebay import open_buffers, open_sqlite, serve_statistics
from forebay.cache import open_cache
from forebay.otlp import export_telemetry
from forebay.testing import MemoryStore
from tests.group.interrupter import (
    LETTERS,
    OPTIONS,
    ROWS,
    STEP,
    Interrupter,
    Letter,
    run,
    unsettled,
)

pytestmark = pytest.mark.usefixtures("_python_handles_sigint")


@pytest.mark.slow
def test_an_interrupt_at_any_call_of_the_exit_of_a_file(tmp_path: Path) -> None:
    """The connections are closed, and the rows are in the file or named."""

    def leave(path: Path, *calls: int) -> tuple[list[BaseException], Interrupter]:
        interrupter = Interrupter(*calls)

        async def main() -> None:
            async with (
                open_sqlite(path, create=[LETTERS]) as store,
                open_buffers(store, LETTERS, options=OPTIONS) as buffers,
            ):
                await buffers[LETTERS].enqueue_many(Letter(str(i)) for i in range(ROWS))
                await store.fetch_one("SELECT 1")
                interrupter.arm()
            interrupter.disarm()

        return run(main, interrupter), interrupter

    calls = leave(tmp_path / "count.db")[1].calls
    one = [(n,) for n in range(1, calls, STEP)]
    more = [(n, n + 5, n + 5 + n % 57)[: 2 + n % 2] for n in range(1, calls, 11 * STEP)]
    for number, at in enumerate([*one, *more]):
        path = tmp_path / f"{number}.db"
        errors, _ = leave(path, *at)
        with closing(sqlite3.connect(path)) as raw:
            [[committed]] = raw.execute("SELECT count(*) FROM letters").fetchall()
        assert ROWS == committed + unsettled(errors), f"interrupted at {at}: {errors}"
        assert not path.with_name(f"{number}.db-wal").exists(), f"interrupted at {at}: left open"


def test_an_interrupt_at_any_call_of_the_exit_of_the_statistics_socket(tmp_path: Path) -> None:
    """The socket is removed, and the error of the body leaves."""
    path = tmp_path / "top.sock"

    def leave(*calls: int) -> tuple[list[BaseException], Interrupter]:
        store, interrupter = MemoryStore(), Interrupter(*calls)

        async def block() -> None:
            async with open_buffers(store, LETTERS) as buffers, serve_statistics(path, buffers):
                await trio.testing.wait_all_tasks_blocked()
                interrupter.arm()
                raise LookupError

        return run(block, interrupter), interrupter

    calls = leave()[1].calls
    one = [(n,) for n in range(2, calls)]
    more = [(n, n + 3, n + 3 + n % 23)[: 2 + n % 2] for n in range(2, calls, 3 * STEP)]
    for at in [*one, *more]:
        errors, _ = leave(*at)
        assert LookupError in {type(error) for error in errors}, f"interrupted at {at}"
        assert not path.exists(), f"interrupted at {at}"


def test_an_interrupt_at_any_call_of_the_exit_of_the_export(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error of the body leaves, and the providers are shut down."""
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")

    def leave(*calls: int) -> tuple[list[BaseException], Interrupter]:
        interrupter = Interrupter(*calls)

        async def block() -> None:
            async with export_telemetry(set_global=False):
                interrupter.arm()
                raise LookupError

        return run(block, interrupter), interrupter

    calls = leave()[1].calls
    one = [(n,) for n in range(2, calls)]
    more = [(n, n + 3, n + 3 + n % 23)[: 2 + n % 2] for n in range(2, calls, STEP)]
    for at in [*one, *more]:
        errors, _ = leave(*at)
        assert LookupError in {type(error) for error in errors}, f"interrupted at {at}"


def test_an_interrupt_at_calls_of_the_exit_of_a_cache(tmp_path: Path) -> None:
    """What the cache accepted is in its file, or the error that leaves names it."""

    def leave(folder: Path, *calls: int) -> tuple[list[BaseException], Interrupter]:
        interrupter = Interrupter(*calls)

        async def block() -> None:
            async with open_cache(folder) as cache:
                for i in range(ROWS):
                    await cache.key_values.put(str(i), "account", "project", ["value"])
                interrupter.arm()
                raise LookupError

        return run(block, interrupter), interrupter

    calls = leave(tmp_path / "count")[1].calls
    for n in range(2, calls, 67):
        folder = tmp_path / str(n)
        errors, _ = leave(folder, n, n + 3)
        with closing(sqlite3.connect(folder / "cache.db")) as raw:
            [[committed]] = raw.execute("SELECT count(*) FROM key_value_entries").fetchall()
        assert ROWS == committed + unsettled(errors), f"interrupted at {n}: {errors}"
        assert LookupError in {type(error) for error in errors}, f"interrupted at {n}"


@pytest.mark.parametrize(
    ("block", "step"),
    [
        pytest.param(lambda folder: open_sqlite(folder / "a.db", create=[LETTERS]), 5, id="file"),
        pytest.param(lambda folder: open_cache(folder / "cache"), 2503, id="cache"),
        pytest.param(lambda _: export_telemetry(set_global=False), 1, id="export"),
    ],
)
def test_an_interrupt_at_calls_while_a_block_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: Any, step: int
) -> None:
    """The interrupt leaves alone, nothing stays open, and the next program opens it again."""
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")

    def enter(folder: Path, *calls: int) -> tuple[list[BaseException], Interrupter]:
        interrupter = Interrupter(*calls)

        async def main() -> None:
            manager = block(folder)
            interrupter.arm()
            async with manager:
                interrupter.disarm()

        return run(main, interrupter), interrupter

    calls = enter(tmp_path)[1].calls
    for n in range(1, calls, step):
        errors, interrupter = enter(tmp_path, n)
        assert {type(error) for error in errors} <= {KeyboardInterrupt}, f"interrupted at {n}"
        assert bool(interrupter.interrupts) == bool(errors), f"interrupted at {n}"
        assert not [*tmp_path.rglob("*-wal")], f"interrupted at {n}: left open"
    assert enter(tmp_path)[0] == []
