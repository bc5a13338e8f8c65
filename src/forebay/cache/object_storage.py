"""`ObjectStorage`: what the transfer worker needs of a storage, and how it reads its errors."""

from __future__ import annotations

import enum
import errno
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import trio

from forebay import ForebayError
from forebay.cache.tables import S3Transfer


class RateLimitedError(ForebayError):
    """The storage asks for fewer requests (429 Too Many Requests, 503 Slow Down).

    The run ends, the transfer stays in the queue, and the worker backs off before the next run.
    """


class UnavailableError(ForebayError):
    """The storage itself seems not to work.

    Examples are a refused connection, a timeout, a server error (500 and above), and refused
    credentials: errors that every transfer meets until an operator fixes the cause. The transfer
    stays in the queue, for as long as that takes, and the worker backs off before the next run.
    If the storage completes other transfers in the same run, the transfer counts as failed.
    """


class MissingError(ForebayError):
    """There is nothing to transfer: the object or the file does not exist."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What an object storage keeps with the content of an artifact.

    Attributes:
        sha256: the SHA-256 of the content, in lower-case hexadecimal digits; None if it is not
            known. A download with another content is refused.
        metadata: the texts that were stored with the artifact.
    """

    sha256: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


class ObjectStorage(Protocol):
    """A storage of objects, such as S3. Each artifact key has its own object.

    A method gets the transfer, whose `account_handle`, `project_handle`, `artifact_type` and `key`
    say which artifact it is about. So a storage may have a bucket per account, for example.

    The cache makes many calls at once. It repeats a call that was cancelled, which may or may not
    have taken effect, so the methods must be safe to repeat.
    """

    async def upload(self, transfer: S3Transfer, path: Path, info: ObjectInfo) -> None:
        """Copy a file to the object of this artifact, and replace the object if there is one.

        Args:
            transfer: the artifact to copy.
            path: the file.
            info: what to keep with the object, so that `download` returns it.

        Raises:
            RateLimitedError: the storage asks for fewer requests.
            UnavailableError: the storage does not work. `ConnectionError` and `TimeoutError`
                have the same effect.
            MissingError: the file does not exist.
            Exception: the transfer failed; it is retried a few times. The members of an
                `ExceptionGroup` are classified one by one, and the first `TransferResult` of
                the enum that one of them has counts.
        """
        ...

    async def download(self, transfer: S3Transfer, path: Path) -> ObjectInfo:
        """Copy the object of this artifact to a file. If this raises, the caller removes the file.

        Args:
            transfer: the artifact to copy.
            path: the file, which exists and is empty.

        Returns:
            What `upload` got; ``ObjectInfo()`` if the storage does not keep it.

        Raises:
            RateLimitedError: the storage asks for fewer requests.
            UnavailableError: the storage does not work. `ConnectionError` and `TimeoutError`
                have the same effect.
            MissingError: the object does not exist.
            Exception: the transfer failed; it is retried a few times. The members of an
                `ExceptionGroup` are classified as for `upload`.
        """
        ...

    async def exists(self, transfer: S3Transfer) -> bool:
        """Return whether there is an object of this artifact.

        Args:
            transfer: a download that is not in the queue.

        Raises:
            RateLimitedError: the storage asks for fewer requests.
            UnavailableError: the storage does not work.
            Exception: the question failed.
        """
        ...

    async def delete_project(self, account: str, project: str) -> None:
        """Delete the objects of all artifacts whose keys begin with ``account/project/``.

        The cache copies no artifact of the project meanwhile.

        Args:
            account: the account's handle.
            project: the project's handle.

        Raises:
            RateLimitedError: the storage asks for fewer requests.
            UnavailableError: the storage does not work.
            Exception: as for `upload`; what was deleted stays deleted.
        """
        ...


class TransferResult(enum.Enum):
    """Why an attempt at a transfer failed. In a group of exceptions the first of these counts."""

    RATE_LIMITED = enum.auto()
    """The storage asks for fewer requests."""
    UNAVAILABLE = enum.auto()
    """The storage, the network, the local disk or this process does not work."""
    FAILED = enum.auto()
    """The transfer itself failed, or the error is unknown."""
    MISSING = enum.auto()
    """There is nothing to transfer."""


_UNAVAILABLE = (
    UnavailableError,
    ConnectionError,
    TimeoutError,
    socket.gaierror,
    ssl.SSLError,
    # What Trio's streams raise when a connection breaks.
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)

_UNAVAILABLE_ERRNOS = frozenset(
    {
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        # Errors of the local disk, and a lack of memory or file descriptors.
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EIO,
        errno.ENOMEM,
        errno.EMFILE,
        errno.ENFILE,
    }
)


def classify(error: Exception) -> TransferResult:
    """Return why an attempt failed, from the exception that it raised."""
    results = {_classify_one(each) for each in _ungrouped(error)}
    return next(result for result in TransferResult if result in results)


def _classify_one(error: BaseException) -> TransferResult:
    if isinstance(error, RateLimitedError):
        return TransferResult.RATE_LIMITED
    if isinstance(error, MissingError):
        return TransferResult.MISSING
    if isinstance(error, _UNAVAILABLE):
        return TransferResult.UNAVAILABLE
    if isinstance(error, OSError) and error.errno in _UNAVAILABLE_ERRNOS:
        return TransferResult.UNAVAILABLE
    return TransferResult.FAILED


def _ungrouped(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions of a group and of its subgroups, or the exception itself."""
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from _ungrouped(member)
    else:
        yield error
