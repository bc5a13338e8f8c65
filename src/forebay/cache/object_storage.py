"""`ObjectStorage`: what the transfer worker asks of a storage of objects by key."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from forebay import ForebayError


class RateLimitedError(ForebayError):
    """The storage asks for fewer requests (429 Too Many Requests, 503 Slow Down).

    It ends the run. The transfer stays in the queue, and the pause before the next run is longer.
    """


class UnavailableError(ForebayError):
    """The storage itself does not work, as far as one can tell.

    No connection, no answer in time, an error of the server (500 and above), credentials that it
    does not take: what will go on failing for every transfer until somebody mends it. The
    transfer stays in the queue, however long that takes, and the pause before the next run is
    longer. Where the storage does other transfers meanwhile, it is the transfer that has failed.
    """


class MissingError(ForebayError):
    """There is nothing to transfer: no object of this key, or no file at this path."""


class ObjectStorage(Protocol):
    """A storage of objects by key, such as S3.

    Many calls are made at once. One that is cancelled may or may not have taken effect; it will
    be made again, so both ways must be safe to repeat.
    """

    async def upload(self, key: str, path: Path) -> None:
        """Copy a file to the object of this key, in place of the one that may be there.

        Args:
            key: the object's key.
            path: the file.

        Raises:
            RateLimitedError: the storage asks for fewer requests.
            UnavailableError: the storage does not work. So say `ConnectionError` and
                `TimeoutError`, too.
            MissingError: there is no file.
            Exception: it failed; it will be tried again, a few times. An `ExceptionGroup` is
                judged by what is in it.
        """
        ...

    async def download(self, key: str, path: Path) -> None:
        """Copy the object of this key to a file. The caller discards the file if this raises.

        Args:
            key: the object's key.
            path: the file, which is there and empty.

        Raises:
            RateLimitedError: the storage asks for fewer requests.
            UnavailableError: the storage does not work. So say `ConnectionError` and
                `TimeoutError`, too.
            MissingError: there is no object.
            Exception: it failed; it will be tried again, a few times. An `ExceptionGroup` is
                judged by what is in it.
        """
        ...
