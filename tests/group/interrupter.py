"""Ctrl-C at chosen function calls while a program runs."""

from __future__ import annotations

import dis
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import trio
import trio.testing
from hypothesis import settings

from forebay import BufferOptions, DrainError, FlushError, Table

ROWS = 100

STEP = max(1, 400 // settings().max_examples)
"""The distance of the calls that are interrupted where each takes long; 1 with Hypothesis's profile
`long`, see tests/conftest.py."""


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
        if event == "call" and not _is_resumed(frame) and not _is_of_the_garbage_collector(frame):
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


def _is_of_the_garbage_collector(frame: FrameType) -> bool:
    """Return whether the garbage collector made this call, whose errors Python drops.

    The last file is Hypothesis's, which measures how long collections take.
    """
    name = Path(frame.f_code.co_filename).name
    return name in ("_weakrefset.py", "weakref.py", "_ki.py", "junkdrawer.py")


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
