"""Keys of a real terminal: a pseudoterminal."""

from __future__ import annotations

import os
import pty
import termios
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from forebay.cli._top.keys import cbreak_mode, wait_for_key


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """The two ends of a pseudoterminal: the keyboard's and the program's."""
    keyboard, program = pty.openpty()
    yield keyboard, program
    for end in (keyboard, program):
        os.close(end)


def mode(terminal: int) -> tuple[bool, bool, bool]:
    """Return whether a terminal edits lines, echoes keys, and sends signals."""
    flags = termios.tcgetattr(terminal)[3]
    return bool(flags & termios.ICANON), bool(flags & termios.ECHO), bool(flags & termios.ISIG)


def test_cbreak_mode_is_undone_at_the_end(terminal: tuple[int, int]) -> None:
    """Within the block keys are neither collected into lines nor echoed; Ctrl-C stays a signal."""
    _, program = terminal
    before = termios.tcgetattr(program)
    with cbreak_mode(program):
        assert (False, False, True) == mode(program)
    assert before == termios.tcgetattr(program)


def test_cbreak_mode_is_undone_after_an_error(terminal: tuple[int, int]) -> None:
    """The mode is restored although the block raises."""
    _, program = terminal
    before = termios.tcgetattr(program)
    with pytest.raises(ZeroDivisionError), cbreak_mode(program):
        raise ZeroDivisionError
    assert before == termios.tcgetattr(program)


async def test_other_keys_are_ignored(terminal: tuple[int, int]) -> None:
    """Only one of the given keys ends the wait."""
    keyboard, program = terminal
    pressed = False

    async def press() -> None:
        nonlocal pressed
        os.write(keyboard, b"x")
        await trio.testing.wait_all_tasks_blocked(0.05)
        pressed = True
        os.write(keyboard, b"yq")

    with trio.fail_after(30), cbreak_mode(program):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(press)
            await wait_for_key(program, b"q")
            assert pressed


async def test_a_terminal_that_is_closed_ends_the_wait() -> None:
    """There will be no more keys."""
    keyboard, program = pty.openpty()
    with trio.fail_after(30), cbreak_mode(program):
        os.close(keyboard)
        await wait_for_key(program, b"q")
    os.close(program)
