"""Reads keys from the terminal without waiting for Enter."""

from __future__ import annotations

import os
import sys
import termios
import tty
from collections.abc import Generator
from contextlib import contextmanager, suppress

import trio


def keyboard() -> int | None:
    """Return the file descriptor of standard input; None if it is not a terminal."""
    # `sys.stdin` is None where the process was started without one.
    return sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None


@contextmanager
def cbreak_mode(terminal: int) -> Generator[None, None, None]:
    """Put a terminal into cbreak mode for the time of the block, and restore its mode on exit.

    In cbreak mode each key can be read at once and is not echoed. Ctrl-C still sends SIGINT.
    """
    mode = termios.tcgetattr(terminal)
    # TCSADRAIN, as TCSAFLUSH would discard the keys that were pressed but not read yet.
    try:
        tty.setcbreak(terminal, termios.TCSADRAIN)
        yield
    finally:
        with suppress(termios.error):  # the terminal was closed
            termios.tcsetattr(terminal, termios.TCSADRAIN, mode)


async def wait_for_key(terminal: int, keys: bytes) -> None:
    """Wait until one of the keys is pressed, or the terminal is closed.

    Args:
        terminal: a terminal in cbreak mode.
        keys: the keys to wait for, each an ASCII character; other keys are ignored.
    """
    pressed = b""
    while not set(pressed) & set(keys):
        await trio.lowlevel.wait_readable(terminal)
        # Not a stream of Trio's: that would make the terminal's writers non-blocking as well.
        pressed = b""
        with suppress(OSError):
            pressed = os.read(terminal, 1024)
        if not pressed:
            return
