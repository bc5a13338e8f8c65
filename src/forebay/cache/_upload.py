"""`Upload`: the content of an artifact while it arrives."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import trio

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

    def __init__(self, directory: Path, threads: anyio.CapacityLimiter) -> None:
        """Begin an upload, without accessing the disk.

        Args:
            directory: the folder of the artifacts.
            threads: limits how many threads access the disk at once.
        """
        self._threads = threads
        self._partial = PartialFile(directory)
        self._descriptor: int | None = None
        self._hash = hashlib.sha256()
        self._chunks: list[bytes] = []
        self._in_memory = 0
        self._unfinished = False
        """Whether the partial file may exist."""
        self.size = 0

    async def write(self, chunk: bytes) -> None:
        """Add bytes at the end. Cancelled, the upload is incomplete: discard it.

        Raises:
            OSError: the partial file cannot be written.
        """
        self.size += len(chunk)
        self._in_memory += len(chunk)
        self._chunks.append(chunk)
        if self._in_memory >= _BLOCK:
            await self._run(self._write_block)

    async def complete(self) -> str:
        """Return the SHA-256 of the content, in hexadecimal digits. Nothing can be added after."""
        if self._descriptor is None:
            self._hash.update(b"".join(self._chunks))
        else:
            await self._run(self._write_block)
        return self._hash.hexdigest()

    async def place(self, path: Path, modified_ns: int) -> None:
        """Make the content the file at a path, and replace the file that is there.

        Once this has begun, cancellation waits until it has ended.

        Args:
            path: the path.
            modified_ns: the modification time of the file, in nanoseconds since 1970.

        Raises:
            OSError: the file cannot be written or moved. The file at the path is as before.
        """
        await self._run(lambda: self._place(path, modified_ns))

    async def discard(self) -> None:
        """Remove the partial file if there is one. It delays a cancellation by at most 10 s."""
        if self._unfinished:
            with trio.move_on_after(_CLEANUP_TIMEOUT, shield=True):
                await self._run(self._discard)

    async def _run(self, call: Callable[[], None]) -> None:
        await anyio.to_thread.run_sync(call, limiter=self._threads)

    def _write_block(self) -> None:
        block = b"".join(self._chunks)
        self._chunks.clear()
        self._in_memory = 0
        self._hash.update(block)
        write_all(self._opened(), block)

    def _opened(self) -> int:
        if self._descriptor is None:
            self._unfinished = True
            self._descriptor = self._partial.create()
        return self._descriptor

    def _place(self, path: Path, modified_ns: int) -> None:
        descriptor = self._opened()
        write_all(descriptor, b"".join(self._chunks))
        os.utime(descriptor, ns=(modified_ns, modified_ns))
        self._close()
        self._partial.move(path)
        self._unfinished = False

    def _close(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    def _discard(self) -> None:
        with suppress(OSError):
            self._close()
        self._partial.discard()
