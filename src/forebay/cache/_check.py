"""What callers hand in, checked where it enters."""

from __future__ import annotations

import inspect
import math
import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import Final

LARGEST: Final = 2**63 - 1
"""The largest integer that SQLite stores."""

LATEST: Final = 2**62
"""The latest time, in microseconds, and the longest delay: two of them can be added."""


def checked_text(argument: str, value: object) -> str:
    """Give a text that is not empty and that SQLite can store.

    Args:
        argument: what the caller calls it.
        value: the text.

    Raises:
        TypeError: it is no text.
        ValueError: it is empty, or has half of a surrogate pair, which UTF-8 cannot express.
    """
    text = encodable(argument, value)
    if not text:
        raise ValueError(f"{argument} must not be empty")
    return text


def checked_texts(argument: str, values: object) -> list[str]:
    """Give the texts of a collection, each as `checked_text` does.

    Raises:
        TypeError: they are a single text, or nothing to iterate over, or one is no text.
        ValueError: one is empty, or has half of a surrogate pair.
    """
    return [checked_text(argument, value) for value in several(argument, values)]


def several(argument: str, values: object) -> Iterable[object]:
    """Give what is a collection, and no single text, whose characters would pass for texts.

    Nor a mapping, whose values would be lost.

    Raises:
        TypeError: it is a single text, a mapping, or nothing to iterate over.
    """
    if isinstance(values, str):
        raise TypeError(
            f"{argument} must be texts, not the single text {values!r}; put it in a list"
        )
    if not isinstance(values, Iterable) or isinstance(values, Mapping):
        raise TypeError(
            f"{argument} must be texts, got {reprlib.repr(values)} of type {type(values).__name__}"
        )
    return values  # pyright: ignore[reportUnknownVariableType]  # checked one by one


def encodable(argument: str, value: object) -> str:
    """Give a text that UTF-8 can express.

    Raises:
        TypeError: it is no text.
        ValueError: it has half of a surrogate pair.
    """
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be str, got {value!r} of type {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{argument} {value!r} has half of a surrogate pair at position {error.start}, "
            f"which cannot be stored as UTF-8; decode it without 'surrogateescape'"
        ) from None
    return value


def checked_limit(argument: str, value: object) -> int:
    """Give a number of rows, or of anything else of which there is to be one or more.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is less than 1 (to SQLite, LIMIT -1 is no limit at all), or past 63 bits.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{argument} must be int, got {value!r} of type {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{argument} must be 1 or more, got {value!r}")
    if value > LARGEST:
        raise ValueError(f"{argument} must be at most {LARGEST}, got {value!r}")
    return value


def checked_row(argument: str, value: object, kind: type[object]) -> None:
    """Check what is a row of a table, or None.

    Raises:
        TypeError: it is neither.
    """
    if value is not None and not isinstance(value, kind):
        raise TypeError(
            f"{argument} must be a {kind.__name__} or None, "
            f"got {value!r} of type {type(value).__name__}"
        )


def checked_seconds(argument: str, value: object) -> None:
    """Check a finite number of seconds above 0.

    Raises:
        TypeError: it is no number.
        ValueError: it is 0 or less, or not finite.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(
            f"{argument} must be a number, got {value!r} of type {type(value).__name__}"
        )
    if not 0 < value < math.inf:
        raise ValueError(f"{argument} must be a finite number above 0, got {value!r}")


def checked_clock(clock: object) -> Callable[[], int]:
    """Give a clock of the caller's that checks the times it tells.

    Raises:
        TypeError: it cannot be called; then, whenever it tells something else than an int.
        ValueError: whenever it tells a time before 1970, or one that SQLite could not add to.
    """
    if not callable(clock):
        raise TypeError(f"clock must be callable, got {clock!r}")

    def checked() -> int:
        now = clock()
        if not isinstance(now, int) or isinstance(now, bool):
            raise TypeError(
                f"clock must tell an int, microseconds since 1970, "
                f"got {now!r} of type {type(now).__name__}"
            )
        if not 0 <= now <= LATEST:
            raise ValueError(f"clock must tell from 0 to {LATEST} microseconds, got {now!r}")
        return now

    return checked


def checked_storage(storage: object) -> None:
    """Check what is to be an object storage.

    Raises:
        TypeError: it has no `upload`, or no `download`, to call and to await.
    """
    for name in ("upload", "download"):
        if not inspect.iscoroutinefunction(getattr(storage, name, None)):
            raise TypeError(
                f"storage must have async methods upload and download: {storage!r} "
                f"of type {type(storage).__name__} has no such {name}"
            )
