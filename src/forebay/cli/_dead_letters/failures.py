"""How the commands of `forebay dead-letters` end when they are interrupted or fail."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import trio

import forebay
from forebay.cli._failures import Failed, Interrupted, describe_os_error

T = TypeVar("T")

_STILL_THERE = (
    "Letters that were not replayed are still there: fix the cause, then run the replay again."
)


def run(
    fn: Callable[[], Coroutine[Any, Any, T]],
    *,
    when_interrupted: Callable[[], str] = lambda: "interrupted",
) -> T:
    """Run an async function in Trio, and return its result.

    Args:
        fn: the function.
        when_interrupted: called after SIGINT; returns the message of the error.

    Raises:
        Failed: the function raised an error that a user can understand.
        Interrupted: SIGINT arrived.
    """
    try:
        return trio.run(fn)
    except KeyboardInterrupt as error:
        raise Interrupted(when_interrupted()) from error
    except BaseExceptionGroup as group:  # a second SIGINT ended the drain, in a DrainError
        if group.subgroup(KeyboardInterrupt) is None:
            raise
        raise Interrupted(when_interrupted()) from group
    except OSError as error:
        raise Failed(describe_os_error(error)) from error
    except forebay.FlushError as error:
        raise Failed(f"{error.__cause__ or error}\n{_STILL_THERE}") from error
    except forebay.DrainError as error:
        [left] = error.unsettled.values()
        cause = left.last_error or "the database did not answer in time"
        raise Failed(f"{cause}\n{_STILL_THERE}") from error
    except forebay.ForebayError as error:
        raise Failed(str(error)) from error
