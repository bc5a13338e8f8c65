"""`ArtifactDeletion`: removes files and their rows, and loses no file that is written meanwhile."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import trio

from forebay import Buffer
from forebay.cache.files import ArtifactFiles, Removal
from forebay.cache.tables import CasArtifact

_log = logging.getLogger("forebay.cache")


class ArtifactDeletion:
    """Removes artifacts: first the files, then the rows.

    If a file is written again and tracked before the delete of its old row is accepted, the delete
    removes the new row as well, and a file without a row would never be evicted. So after each
    delete the file is looked for, and tracked again if it exists.
    """

    def __init__(
        self,
        buffer: Buffer[CasArtifact],
        files: ArtifactFiles,
        track: Callable[[str], Awaitable[None]],
    ) -> None:
        """Set the buffer and the files.

        Args:
            buffer: the buffer of the rows.
            files: the artifacts' files.
            track: writes the row of an artifact.
        """
        self._buffer = buffer
        self._files = files
        self._track = track
        self._unchecked: list[str] = []
        """Keys whose delete was accepted, and whose file was not looked for since."""

    async def delete(self, keys: Sequence[str], enqueue_timeout: float = math.inf) -> Removal:
        """Remove the files of these keys, and the rows of those that were removed.

        Args:
            keys: the keys.
            enqueue_timeout: how long to wait for capacity of the buffer, in seconds. Rows that do
                not get any remain.

        Returns:
            What happened to each file.
        """
        removal = await self._files.remove(keys)
        for key, error in removal.failed.items():
            _log.warning("artifact %r cannot be removed and is skipped: %s", key, error)
        with trio.move_on_after(enqueue_timeout):
            for key in removal.freed:
                await self._buffer.enqueue_delete(key)
                self._unchecked.append(key)
        await self.track_rewritten(enqueue_timeout)
        return removal

    async def track_rewritten(self, enqueue_timeout: float = math.inf) -> None:
        """Track the deleted files that exist again.

        Cancelled, or without capacity of the buffer, it leaves the rest to the next call.

        Args:
            enqueue_timeout: how long to wait for capacity of the buffer, in seconds.
        """
        if not self._unchecked:
            return
        unchecked = deque(self._unchecked)
        self._unchecked.clear()
        try:
            sizes = await self._files.sizes(tuple(unchecked))
            with trio.move_on_after(enqueue_timeout):
                for size in sizes:
                    if size is not None:
                        await self._track(unchecked[0])
                    unchecked.popleft()
        finally:
            self._unchecked.extend(unchecked)
