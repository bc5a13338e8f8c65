"""Ctrl-C at each function call while `open_buffers` is entered or left."""

from __future__ import annotations

import pytest

from forebay import DrainError, open_buffers
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
    for n in range(1, calls + 1, 3 * STEP):
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
