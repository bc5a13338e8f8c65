"""The gate that producers pass, and that closes before the workers and the buffers do."""

from __future__ import annotations

import trio


class Gate:
    """Open until it is closed, for good."""

    def __init__(self) -> None:
        self._closed = False

    def close(self) -> None:
        """Let nobody pass any more."""
        self._closed = True

    def check(self) -> None:
        """Pass.

        Raises:
            trio.ClosedResourceError: the gate is closed.
        """
        if self._closed:
            raise trio.ClosedResourceError("the cache is closed: its open_cache block has ended")
