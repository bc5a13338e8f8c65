"""What callers hand in as text, checked where it enters."""

from __future__ import annotations


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


def checked_limit(argument: str, value: int) -> int:
    """Give a number of rows.

    Raises:
        ValueError: it is less than 1 (to SQLite, LIMIT -1 is no limit at all).
    """
    if value < 1:
        raise ValueError(f"{argument} must be 1 or more, got {value!r}")
    return value
