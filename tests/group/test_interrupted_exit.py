"""Ctrl-C at each function call while a block is entered or left."""

from __future__ import annotations

import dis
import signal
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest
import trio
import trio.testing

from forebay import (
    BufferOptions,
    DrainError,
    FlushError,
    Table,
    open_buffers,
    open_sqlite,
    serve_statistics,
)
from forebay.cache import open_cache
from forebay.otlp import export_telemetry
from forebay.testing import MemoryStore

pytestmark = pytest.mark.usefixtures("_python_handles_sigint")

ROWS = 100


class Letter(NamedTuple):
    name: str


LETTERS = Table(Letter, name="letters")
OPTIONS = BufferOptions(batch_size=40)


class Interrupter:
    """Raises SIGINT at chosen calls of Python functions, once it is armed."""

    def __init__(self, *calls: int) -> None:
        self._due = set(calls)
        self.calls = 0
        self.interrupts = 0

    def arm(self) -> None:
        """Begin to count calls in this thread."""
        sys.setprofile(self._profile)

    def _profile(self, frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and not _is_resumed(frame) and not _is_weak_callback(frame):
            self.calls += 1
            if self.calls in self._due:
                self.interrupts += 1
                signal.raise_signal(signal.SIGINT)

    def disarm(self) -> None:
        """Count no more calls."""
        sys.setprofile(None)


def _is_resumed(frame: FrameType) -> bool:
    """Return whether a frame goes on after an `await`, where Python handles no signals.

    RESUME does not check for signals there, so that `async with` cannot be left half way:
    https://github.com/python/cpython/blob/3.11/Python/ceval.c, `TARGET(RESUME)`.
    """
    code, at = frame.f_code.co_code, max(frame.f_lasti, 0)
    name, argument = dis.opname[code[at]], code[at + 1]
    return name == "YIELD_VALUE" or (name == "RESUME" and argument >= 2)


def _is_weak_callback(frame: FrameType) -> bool:
    """Return whether the garbage collector made this call, whose errors Python drops."""
    return Path(frame.f_code.co_filename).name in ("_weakrefset.py", "weakref.py", "_ki.py")


def leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in leaves(each)]
    return [error]


def run(block: Callable[[], Any], interrupter: Interrupter) -> list[BaseException]:
    """Run a block and return the errors that left it.

    If a signal comes when the block has ended, Trio raises its KeyboardInterrupt at the end of the
    program, with the error that left the block as its context.
    """
    left: list[BaseException] = []

    async def main() -> None:
        try:
            await block()
        except BaseException as error:
            sys.setprofile(None)  # not `disarm`, whose call would be counted
            left.extend(leaves(error))
            raise

    try:
        trio.run(main)
    except BaseException as error:  # noqa: BLE001  # the caller examines it
        return left or leaves(error)
    finally:
        interrupter.disarm()
    return left


def unsettled(errors: list[BaseException]) -> int:
    """Count the entries that the errors name."""
    count = 0
    for error in errors:
        if isinstance(error, DrainError):
            count += sum(left.count for left in error.unsettled.values())
        elif isinstance(error, FlushError):
            count += error.unsettled.count
    return count


def leave_buffers(*calls: int) -> tuple[int, list[BaseException], int, Interrupter]:
    """Leave a block with pending rows, interrupted at these calls; return what became of it."""
    store, interrupter = MemoryStore(), Interrupter(*calls)
    accepted = 0

    async def main() -> None:
        nonlocal accepted
        async with open_buffers(store, LETTERS, options=OPTIONS) as buffers:
            accepted = await buffers[LETTERS].enqueue_many(Letter(str(i)) for i in range(ROWS))
            interrupter.arm()
        interrupter.disarm()

    errors = run(main, interrupter)
    return accepted, errors, len(store.rows(LETTERS)), interrupter


def check_buffers(*calls: int) -> None:
    accepted, errors, committed, interrupter = leave_buffers(*calls)
    assert accepted == committed + unsettled(errors), f"interrupted at {calls}: {errors}"
    kinds = {type(error) for error in errors}
    assert kinds <= {KeyboardInterrupt, DrainError}, f"interrupted at {calls}: {errors}"
    if interrupter.interrupts:
        assert KeyboardInterrupt in kinds, f"interrupted at {calls}"


def test_an_interrupt_at_any_call_of_the_exit_drains_or_names() -> None:
    """One, two or three signals: each row is in the table, or the error that leaves names it."""
    calls = leave_buffers()[3].calls
    assert calls > 100
    for n in range(1, calls + 1):
        check_buffers(n)
    for n in range(1, calls + 1, 3):
        check_buffers(n, n + 1)
        check_buffers(n, n + 1 + n % 23, n + 2 + n % 57)


def test_an_interrupt_at_any_call_of_the_exit_of_a_failing_program() -> None:
    """The error of the body leaves beside the interrupt, and so does the account."""
    calls = leave_buffers()[3].calls

    def leave(*calls: int) -> tuple[list[BaseException], int]:
        store, interrupter = MemoryStore(), Interrupter(*calls)

        async def main() -> None:
            async with open_buffers(store, LETTERS, options=OPTIONS) as buffers:
                await buffers[LETTERS].enqueue_many(Letter(str(i)) for i in range(ROWS))
                interrupter.arm()
                raise LookupError

        errors = run(main, interrupter)
        return errors, len(store.rows(LETTERS))

    for n in range(2, calls, 3):
        errors, committed = leave(n)
        assert ROWS == committed + unsettled(errors)
        assert LookupError in {type(error) for error in errors}


def test_an_interrupt_at_any_call_while_buffers_open() -> None:
    """Nothing was accepted yet: the interrupt leaves, and no task stays behind."""
    store = MemoryStore()

    def open_interrupted(*calls: int) -> tuple[list[BaseException], Interrupter]:
        interrupter = Interrupter(*calls)

        async def main() -> None:
            manager = open_buffers(store, LETTERS)
            interrupter.arm()
            async with manager:
                interrupter.disarm()

        return run(main, interrupter), interrupter

    calls = open_interrupted()[1].calls
    for n in range(1, calls):
        errors, interrupter = open_interrupted(n)
        assert {type(error) for error in errors} <= {KeyboardInterrupt}
        assert bool(interrupter.interrupts) == bool(errors)


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
    one = [(n,) for n in range(1, calls)]
    more = [(n, n + 5, n + 5 + n % 57)[: 2 + n % 2] for n in range(1, calls, 11)]
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
    more = [(n, n + 3, n + 3 + n % 23)[: 2 + n % 2] for n in range(2, calls, 3)]
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

    for n in range(2, leave()[1].calls):
        for at in ((n,), (n, n + 3), (n, n + 3, n + 3 + n % 23)):
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
