"""Checks of the arguments that callers pass to the cache."""

from __future__ import annotations

import inspect
import math
import re
import reprlib
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from typing import Final, TypeAlias

Chunk: TypeAlias = bytes | bytearray | memoryview
"""A piece of the content of an artifact."""

MAX_INTEGER: Final = 2**63 - 1
"""The largest integer that SQLite can store."""

MAX_TIME: Final = 2**62
"""The latest time and the longest delay, in microseconds: the sum of two fits into 64 bits."""


def checked_text(argument: str, value: object) -> str:
    """Check that a value is a text that is not empty and that SQLite can store, and return it.

    Args:
        argument: the name of the argument, for the error.
        value: the value.

    Raises:
        TypeError: the value is not a str.
        ValueError: the text is empty, or has half of a surrogate pair, which UTF-8 cannot encode.
    """
    text = checked_utf8(argument, value)
    if not text:
        raise ValueError(f"{argument} must not be empty")
    return text


def checked_texts(argument: str, values: object) -> list[str]:
    """Check each text of a collection as `checked_text` does, and return the texts.

    Raises:
        TypeError: `values` is a single str or not iterable, or an element is not a str.
        ValueError: a text is empty or has half of a surrogate pair.
    """
    return [checked_text(argument, value) for value in checked_iterable(argument, values)]


def checked_iterable(argument: str, values: object) -> Iterable[object]:
    """Check that a value is a collection of texts, and return it.

    A single str is refused, since its characters would be taken for the texts. A mapping is
    refused, since its values would be lost.

    Raises:
        TypeError: `values` is a str, a mapping, or not iterable.
    """
    if isinstance(values, str):
        raise TypeError(
            f"{argument} must be texts, not the single text {values!r}; put it in a list"
        )
    if not isinstance(values, Iterable) or isinstance(values, Mapping):
        raise wrong_type(f"{argument} must be texts", values)
    return values  # pyright: ignore[reportUnknownVariableType]  # the caller checks each element


def checked_utf8(argument: str, value: object) -> str:
    """Check that a value is a text that UTF-8 can encode, and return it.

    Raises:
        TypeError: the value is not a str.
        ValueError: the text has half of a surrogate pair.
    """
    if not isinstance(value, str):
        raise wrong_type(f"{argument} must be str", value)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{argument} {value!r} has half of a surrogate pair at position {error.start}, "
            f"which cannot be stored as UTF-8; decode it without 'surrogateescape'"
        ) from None
    return value


def check_handles(account: object, project: object) -> None:
    """Check the handles of an account and of a project of it.

    Raises:
        TypeError: a handle is not a str.
        ValueError: a handle is empty, has a slash, or cannot be encoded as UTF-8.
    """
    for argument, handle in (("account", account), ("project", project)):
        if "/" in checked_text(argument, handle):
            raise ValueError(f"{argument} {handle!r} has a slash, which ends a handle in a key")


def checked_limit(argument: str, value: object) -> int:
    """Check that a value is an int from 1 to 2**63 - 1, and return it.

    Raises:
        TypeError: the value is not an int.
        ValueError: the value is less than 1 (SQLite reads LIMIT -1 as no limit), or does not fit
            into SQLite's 64-bit integer.
    """
    limit = _checked_int(f"{argument} must be int", value)
    if limit < 1:
        raise ValueError(f"{argument} must be 1 or more, got {limit!r}")
    if limit > MAX_INTEGER:
        raise ValueError(f"{argument} must be at most {MAX_INTEGER}, got {limit!r}")
    return limit


def checked_size(argument: str, value: object) -> int:
    """Check that a value is an int from 0 to 2**63 - 1, and return it.

    Raises:
        TypeError: the value is not an int.
        ValueError: the value is out of this range.
    """
    size = _checked_int(f"{argument} must be int", value)
    if not 0 <= size <= MAX_INTEGER:
        raise ValueError(f"{argument} must be 0 to {MAX_INTEGER}, got {size!r}")
    return size


def checked_chunk(chunk: object) -> bytes:
    """Check that a chunk of an upload is bytes, and return it; other kinds of bytes are copied.

    Raises:
        TypeError: it is not bytes, a bytearray or a memoryview.
    """
    if isinstance(chunk, bytes):
        return chunk
    if not isinstance(chunk, bytearray | memoryview):
        raise wrong_type("chunks must yield bytes", chunk)
    return bytes(chunk)


def check_chunks(chunks: object) -> None:
    """Check that a value can be the content of an upload.

    Raises:
        TypeError: it is neither bytes nor an asynchronous iterable.
    """
    if not isinstance(chunks, Chunk | AsyncIterable):
        raise wrong_type("chunks must be bytes or an asynchronous iterable of bytes", chunks)


def checked_sha256(argument: str, value: object) -> str:
    """Check that a value is a SHA-256 in hexadecimal digits, and return it in lower case.

    Raises:
        TypeError: the value is not a str.
        ValueError: it does not have 64 hexadecimal digits.
    """
    text = checked_utf8(argument, value)
    if re.fullmatch(r"[0-9a-fA-F]{64}", text) is None:
        raise ValueError(f"{argument} must have 64 hexadecimal digits, got {text!r}")
    return text.lower()


def checked_metadata(argument: str, value: object) -> dict[str, str]:
    """Check that a value is a mapping of texts, or None, and return a copy of it.

    Raises:
        TypeError: the value is not a mapping, or a name or a text is not a str.
        ValueError: a name or a text has half of a surrogate pair.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise wrong_type(f"{argument} must be a mapping of texts", value)
    return {
        checked_utf8(f"{argument}: a name", name): checked_utf8(f"{argument}[{name!r}]", text)
        for name, text in value.items()
    }


def check_row(argument: str, value: object, kind: type[object]) -> None:
    """Check that a value is a row of this type, or None.

    Raises:
        TypeError: the value is neither.
    """
    if value is not None and not isinstance(value, kind):
        raise wrong_type(f"{argument} must be a {kind.__name__} or None", value)


def check_seconds(argument: str, value: object) -> None:
    """Check that a value is a finite number of seconds above 0.

    Raises:
        TypeError: the value is not a number.
        ValueError: the value is 0 or less, or not finite.
    """
    if not 0 < _checked_number(argument, value) < math.inf:
        raise ValueError(f"{argument} must be a finite number above 0, got {value!r}")


def check_timeout(argument: str, value: object) -> None:
    """Check that a value is a number of seconds of at least 0, or infinity.

    Raises:
        TypeError: the value is not a number.
        ValueError: the value is less than 0, or NaN.
    """
    if not _checked_number(argument, value) >= 0:
        raise ValueError(f"{argument} must be 0 or more, got {value!r}")


def check_time(argument: str, value: object) -> None:
    """Check that a value is a time: an int from 0 to `MAX_TIME`.

    Raises:
        TypeError: the value is not an int.
        ValueError: the time is before 1970 or after `MAX_TIME`.
    """
    _checked_time(f"{argument} must be", value)


def checked_clock(clock: object) -> Callable[[], int]:
    """Wrap a clock so that each time it returns is checked.

    Returns:
        The wrapped clock. It raises TypeError when `clock` does not return an int, and ValueError
        when `clock` returns a time before 1970 or after `MAX_TIME`.

    Raises:
        TypeError: `clock` is not callable.
    """
    if not callable(clock):
        raise TypeError(f"clock must be callable, got {clock!r}")
    return lambda: _checked_time("clock must return", clock())


def _checked_time(rule: str, value: object) -> int:
    time = _checked_int(f"{rule} an int, microseconds since 1970", value)
    if not 0 <= time <= MAX_TIME:
        raise ValueError(f"{rule} 0 to {MAX_TIME} microseconds, got {time!r}")
    return time


def _checked_int(rule: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_type(rule, value)
    return value


def _checked_number(argument: str, value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise wrong_type(f"{argument} must be a number", value)
    return value


def wrong_type(rule: str, value: object) -> TypeError:
    """Return the error for a value that breaks a rule, such as "limit must be int"."""
    return TypeError(f"{rule}, got {reprlib.repr(value)} of type {type(value).__name__}")


def check_storage(storage: object) -> None:
    """Check that a value can be used as an `ObjectStorage`.

    Raises:
        TypeError: a method is missing, or is not an async method.
    """
    methods = ("upload", "download", "exists", "delete_project")
    for name in methods:
        if not inspect.iscoroutinefunction(getattr(storage, name, None)):
            raise TypeError(
                f"storage must have the async methods {', '.join(methods)}: {storage!r} "
                f"of type {type(storage).__name__} has no async method {name}"
            )
