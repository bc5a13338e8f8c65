"""Whose fault it is that a transfer was not done."""

from __future__ import annotations

import enum
import errno
import socket
import ssl

import trio

from forebay.cache._leaves import leaves
from forebay.cache.object_storage import MissingError, RateLimitedError, UnavailableError


class Verdict(enum.Enum):
    """What an attempt came to that raised; where it raised several, the first of these counts."""

    RATE_LIMITED = enum.auto()
    """The storage asks for fewer requests."""
    UNAVAILABLE = enum.auto()
    """The storage, the network, this disk or this process: not this transfer, as it seems."""
    FAILED = enum.auto()
    """This transfer, as it seems: whatever is not known to be anything else."""
    MISSING = enum.auto()
    """There is nothing to transfer."""


_UNAVAILABLE = (
    UnavailableError,
    ConnectionError,
    TimeoutError,
    socket.gaierror,
    ssl.SSLError,
    # A connection, to a client on Trio's streams.
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)

_OUT_OF_ORDER = frozenset(
    {
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        # What a download is written to, or anything is opened by.
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EIO,
        errno.ENOMEM,
        errno.EMFILE,
        errno.ENFILE,
    }
)


def verdict(error: Exception) -> Verdict:
    """Judge what an attempt raised; a group, by all that is in it."""
    found = {_judged(leaf) for leaf in leaves(error)}
    return next(each for each in Verdict if each in found)


def _judged(error: BaseException) -> Verdict:
    if isinstance(error, RateLimitedError):
        return Verdict.RATE_LIMITED
    if isinstance(error, MissingError):
        return Verdict.MISSING
    if isinstance(error, _UNAVAILABLE):
        return Verdict.UNAVAILABLE
    if isinstance(error, OSError) and error.errno in _OUT_OF_ORDER:
        return Verdict.UNAVAILABLE
    return Verdict.FAILED
