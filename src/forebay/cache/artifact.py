"""`Artifact`, `ArtifactReader` and the errors of an upload."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Final

import trio

from forebay import ForebayError

_PIECE: Final = 128 * 1024
"""How many bytes `ArtifactReader.chunks` reads at a time."""


class SizeMismatchError(ForebayError):
    """An upload has more or fewer bytes than announced: it was cut off, or its length is wrong.

    Nothing was stored. A server answers 400 Bad Request.

    Attributes:
        key: the artifact's key.
        expected: the announced size, in bytes.
        received: how many bytes were received, until the upload ended or exceeded its size.
    """

    def __init__(self, key: str, *, expected: int, received: int) -> None:
        super().__init__(
            f"artifact {key!r} was announced with {expected} bytes, but {received} were received; "
            f"nothing was stored: send it again"
        )
        self.key = key
        self.expected = expected
        self.received = received


class DigestMismatchError(ForebayError):
    """The content of an upload does not have the announced SHA-256.

    Nothing was stored. A server answers 422 Unprocessable Content.

    Attributes:
        key: the artifact's key.
        expected: the announced SHA-256, in lower-case hexadecimal digits.
        received: the SHA-256 of the bytes that were received.
    """

    def __init__(self, key: str, *, expected: str, received: str) -> None:
        super().__init__(
            f"artifact {key!r} was announced with the SHA-256 {expected}, but that of the content "
            f"is {received}; nothing was stored: send it again"
        )
        self.key = key
        self.expected = expected
        self.received = received


@dataclass(frozen=True, slots=True)
class Artifact:
    """What the cache knows of one artifact.

    Attributes:
        key: its key.
        size: the size of its content, in bytes.
        sha256: the SHA-256 of its content, in lower-case hexadecimal digits; None if its file was
            written by `ArtifactFiles.writing`.
        metadata: the texts that were stored with it.
        stored_at: when `store` stored it, in microseconds since 1970-01-01T00:00:00 UTC. No two
            uploads of one key have the same time, and the upload with the latest one is the one
            that is read. None if its file was written by `ArtifactFiles.writing`.
    """

    key: str
    size: int
    sha256: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    stored_at: int | None = None


@dataclass(frozen=True, slots=True)
class ArtifactReader:
    """An artifact and its open file, which stays as it is when the artifact is replaced or deleted.

    Attributes:
        artifact: what the cache knows of it.
        file: its file, open for reading and without a buffer. Pass its descriptor to `os.sendfile`,
            or call its methods in a thread.
        content: the whole content if it has at most 64 KiB; otherwise None.
    """

    artifact: Artifact
    file: BinaryIO
    content: bytes | None

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Read the content in pieces of at most 128 KiB, each in a call of a thread.

        If you may stop before the end, close the generator, as `contextlib.aclosing` does. The
        position of `file` has no effect and does not change. Cancelled, it waits for the end of the
        call.

        Yields:
            The next bytes of the content.

        Raises:
            OSError: the file cannot be read, or is shorter now: the rest of the content is lost.
        """
        if self.content:
            yield self.content
            return
        size = self.artifact.size
        for start in range(0, size, _PIECE):
            length = min(_PIECE, size - start)
            chunk = await trio.to_thread.run_sync(os.pread, self.file.fileno(), length, start)
            if len(chunk) < length:
                raise OSError(
                    f"artifact {self.artifact.key!r} had {size} bytes when it was opened, but its "
                    f"file is shorter now; delete the artifact"
                )
            yield chunk


@dataclass(frozen=True, slots=True)
class ArtifactStatistics:
    """What the artifacts of a cache were used for since the cache was opened."""

    hits: int = 0
    """Artifacts that `reading` found."""
    misses: int = 0
    """Keys for which `reading` found no artifact."""
    hit_bytes: int = 0
    """The total size of the artifacts that `reading` found, in bytes."""
    stored: int = 0
    """Artifacts that `store` stored."""
    stored_bytes: int = 0
    """Their total size, in bytes."""
