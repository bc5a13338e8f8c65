"""Wait, in Trio, for a lock that another process holds on the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import trio

from forebay._options import JITTER, RetryPolicy
from forebay.stores.sqlite._errors import LOCKED, failure_code

T = TypeVar("T")

_BACKOFF: Final = RetryPolicy()


async def retry_while_locked(
    call: Callable[[], Awaitable[T]], may_repeat: Callable[[], bool] = lambda: True
) -> T:
    """Repeat a call while another process's lock makes it fail, and back off in between.

    Args:
        call: the call.
        may_repeat: returns whether the call may be repeated after its last failure.

    Returns:
        The result of the call.

    Raises:
        Exception: an error of the call that is not a lock, or after which `may_repeat` is false.
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            return await call()
        except sqlite3.OperationalError as error:
            if failure_code(error) not in LOCKED or not may_repeat():
                raise
        await trio.sleep(_BACKOFF.delay(attempt, JITTER.random()))
