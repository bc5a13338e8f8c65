"""`ArtifactDeletion`: removes the files and the rows of artifacts."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence

import trio

from forebay import Buffer
from forebay.cache._contents import ArtifactContents
from forebay.cache.files import ArtifactFiles, Removal
from forebay.cache.tables import CasArtifact

_log = logging.getLogger("forebay.cache")


class ArtifactDeletion:
    """Removes artifacts: first the files, then the rows.

    Both happen while the keys are locked, so an artifact that is stored or tracked meanwhile has
    its row after the delete of the old one.
    """

    def __init__(
        self, buffer: Buffer[CasArtifact], files: ArtifactFiles, contents: ArtifactContents
    ) -> None:
        """Set the buffer and the files.

        Args:
            buffer: the buffer of the rows.
            files: the artifacts' files.
            contents: what locks the keys and keeps rows in memory.
        """
        self._buffer = buffer
        self._files = files
        self._contents = contents

    async def delete(self, keys: Iterable[str], max_wait: float = math.inf) -> Removal:
        """Remove the files of these keys, and the rows of those that were removed.

        Args:
            keys: the keys.
            max_wait: how long to wait for keys that are being stored, and for capacity of the
                buffer, in seconds. Artifacts that are still being stored then remain, and so do
                rows that do not get any capacity.

        Returns:
            What happened to each file.
        """
        total = Removal({}, {})
        left = dict.fromkeys(keys)
        deadline = trio.current_time() + max_wait
        while left:
            free = self._contents.locks.free(left)
            if not free:
                with trio.move_on_at(deadline) as waiting:
                    await self._contents.locks.wait_free(next(iter(left)))
                if waiting.cancelled_caught:
                    break
                continue
            with self._contents.locks.hold(free):
                removal = await self._delete(free, deadline)
            total.freed.update(removal.freed)
            total.failed.update(removal.failed)
            for key in free:
                del left[key]
        return total

    async def _delete(self, keys: Sequence[str], deadline: float) -> Removal:
        removal = await self._files.remove(keys)
        for key, error in removal.failed.items():
            _log.warning("artifact %r cannot be removed and is skipped: %s", key, error)
        with trio.move_on_at(deadline):
            for key in removal.freed:
                self._contents.known.forget(key)
                try:
                    self._buffer.enqueue_delete_nowait(key)  # also after the deadline
                except trio.WouldBlock:
                    await self._buffer.enqueue_delete(key)
        return removal
