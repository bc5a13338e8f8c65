"""What a worker does between two runs: it outlives the one, and pauses before the other."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager

import trio

from forebay.cache._leaves import leaves

_log = logging.getLogger("forebay.cache")


@contextmanager
def outlived(whose: str) -> Generator[None, None, None]:
    """Let a worker outlive a run that fails: a lock, or too many open files, pass.

    Args:
        whose: for the warning.

    Raises:
        trio.BrokenResourceError: a buffer's worker has failed, which ends all that is its.
    """
    try:
        yield
    except Exception as error:
        if any(isinstance(leaf, trio.BrokenResourceError) for leaf in leaves(error)):
            raise
        _log.warning("%s run failed, and is tried again at the next interval: %r", whose, error)


async def pause(stopping: trio.Event, seconds: float) -> None:
    """Wait so long, or until the worker is to stop."""
    with trio.move_on_after(seconds):
        await stopping.wait()
