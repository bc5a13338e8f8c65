"""Wait for what another process, thread or task brings about, if no event tells when."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.request import urlopen

import trio

TIMEOUT = 90.0
"""Seconds to wait. Only a test that fails takes so long, or one on a very busy machine."""

_T = TypeVar("_T")


def wait_until(
    holds: Callable[[], _T | None],
    what: str,
    seen: Callable[[], object] = str,
    *,
    interval: float = 0.01,
) -> _T:
    """Ask again until a condition holds, and return its value; fail after `TIMEOUT`.

    Args:
        holds: the condition: it holds when this returns a true value.
        what: the condition in words, for the failure.
        seen: returns what the failure shows, such as the output of a program.
        interval: seconds between two questions.
    """
    deadline = time.monotonic() + TIMEOUT
    while not (value := holds()):
        assert time.monotonic() < deadline, _failure(what, seen)
        time.sleep(interval)
    return value


async def wait_until_async(
    holds: Callable[[], object],
    what: str,
    seen: Callable[[], object] = str,
    *,
    interval: float = 0.01,
) -> None:
    """Wait as `wait_until` does, while other tasks run.

    The timeout is in real time. With an `interval` of 0 the condition is asked in each turn of the
    event loop: for a test whose clock stands still, or for a condition that holds only briefly.
    """
    deadline = time.monotonic() + TIMEOUT
    while not holds():
        assert time.monotonic() < deadline, _failure(what, seen)
        await trio.sleep(interval)


def _failure(what: str, seen: Callable[[], object]) -> str:
    return f"after {TIMEOUT:.0f} s, not yet: {what}\n{seen()}"


def wait_for_server(process: subprocess.Popen[bytes], log: Path, is_up: Callable[[], bool]) -> None:
    """Wait until a server is up. Fail at once, with its log, if its process has ended."""

    def holds() -> bool:
        assert process.poll() is None, f"the server has ended\n{log.read_text()}"
        return is_up()

    wait_until(holds, "the server answers", log.read_text, interval=0.05)


def answers(url: str) -> bool:
    """Return whether an HTTP server answers at a URL, with success."""
    try:
        with urlopen(url, timeout=5) as answer:  # noqa: S310  # http, on loopback
            return bool(answer.status == 200)
    except OSError:
        return False
