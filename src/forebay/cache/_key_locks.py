"""`KeyLocks`: one lock per key, for the steps that change the file and the row of an artifact."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable
from contextlib import contextmanager

import trio


class KeyLocks:
    """Locks keys for one task at a time.

    A task that holds a lock never waits for another one, so tasks cannot wait for each other in a
    circle.
    """

    def __init__(self) -> None:
        self._held: dict[str, trio.Event] = {}
        """The keys that are locked; the event is set when the lock is released."""

    async def wait_free(self, key: str) -> None:
        """Wait until a key is not locked. Do not wait for anything else before `hold`.

        If the key is not locked, this is not a checkpoint.
        """
        while (released := self._held.get(key)) is not None:
            await released.wait()

    def free(self, keys: Iterable[str]) -> list[str]:
        """Return the keys that are not locked."""
        return [key for key in keys if key not in self._held]

    @contextmanager
    def hold(self, keys: Collection[str]) -> Generator[None, None, None]:
        """Lock keys for the duration of the block. They must not be locked."""
        released = trio.Event()
        self._held.update(dict.fromkeys(keys, released))
        try:
            yield
        finally:
            for key in keys:
                del self._held[key]
            released.set()
