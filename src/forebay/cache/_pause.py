"""The pause of a worker between two runs."""

from __future__ import annotations

import trio


async def pause(stopping: trio.Event, seconds: float) -> None:
    """Wait so long, or until the worker is to stop."""
    with trio.move_on_after(seconds):
        await stopping.wait()
