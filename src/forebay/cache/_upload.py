"""`Upload`: the content of an artifact while it arrives."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from forebay.cache._disk_threads import DiskThreads
from forebay.cache._partial_file import PartialFile, write_all

_BLOCK: Final = 64 * 1024
"""How many bytes are collected before they are written to the disk. A smaller upload is written
when it is complete, in one call of a thread."""

_CLEANUP_TIMEOUT: Final = 10.0
"""How long the removal of an unfinished file may delay a cancellation, in seconds."""


class Upload:
    """The content of an artifact while it arrives: in memory, and from 64 KiB in a partial file.

    Call `discard` at the end, in any case.

    Attributes:
        size: how many bytes have arrived.
    """

    def __init__(self, partial: Path, threads: DiskThreads) -> None:
        """Begin an upload, without accessing the disk.

        Args:
            partial: the folder of partial files.
            threads: where the disk is accessed.
        """
        self._threads = threads
        self._partial = PartialFile(partial)
        self._descriptor: int | None = None
        self._hash = hashlib.sha256()
        self._block = bytearray()
        self._unfinished = False
        """Whether the partial file may exist."""
        self.size: int = 0

    async def write(self, chunk: bytes) -> None:
        """Add bytes at the end. Cancelled, the upload is incomplete: discard it.

        Raises:
            OSError: the partial file cannot be written.
        """
        self.size += len(chunk)
        self._block += chunk
        if len(self._block) >= _BLOCK:
            await self._threads.run(self._write_block)

    async def complete(self) -> str:
        """Return the SHA-256 of the content, in hexadecimal digits. Nothing can be added after."""
        if self._descriptor is None:
            self._hash.update(self._block)
        else:
            await self._threads.run(self._write_block)
        return self._hash.hexdigest()

    async def place(self, subfolder: Path, name: str, modified_ns: int) -> None:
        """Make the content the file with this name, and replace the file that is there.

        It must not be cancelled, since nobody would know whether the file was replaced.

        Args:
            subfolder: the folder of the file.
            name: the name of the file.
            modified_ns: the modification time of the file, in nanoseconds since 1970.

        Raises:
            OSError: the file cannot be written or moved. The file of this name is as before.
        """
        await self._threads.run_short(lambda: self._place(subfolder, name, modified_ns))

    async def discard(self) -> None:
        """Remove the partial file if there is one. It delays a cancellation by at most 10 s."""
        if self._unfinished:
            with trio.move_on_after(_CLEANUP_TIMEOUT, shield=True):
                await self._threads.run(self._discard)

    def _write_block(self) -> None:
        block, self._block = self._block, bytearray()
        self._hash.update(block)
        if self._descriptor is None:
            self._unfinished = True
            self._descriptor = self._partial.create()
        write_all(self._descriptor, block)

    def _place(self, subfolder: Path, name: str, modified_ns: int) -> None:
        if self._descriptor is None:
            self._partial.write(self._block, modified_ns, subfolder, name)
            return
        os.utime(self._descriptor, ns=(modified_ns, modified_ns))
        self._close()
        self._partial.move(subfolder, name)
        self._unfinished = False

    def _close(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    def _discard(self) -> None:
        with suppress(OSError):
            self._close()
        self._partial.discard()
