"""Names of objects that every S3 server accepts, from keys with any characters and any length.

Servers that keep objects in a file system refuse names that are not paths of it, such as `a//b`
and `../a`, and some refuse characters that XML cannot hold, such as NUL. So a name has only
letters, digits, `-`, `_`, `.`, `/` and `!`. Of these, `!` begins an escape:

| in a key | in its name |
|---|---|
| another character | `!` and two hexadecimal digits for each byte of its UTF-8 |
| an empty segment, as in `/a`, `a//b` and `a/` | `!` |
| a segment `.` or `..` | `!2E`, `!2E!2E` |
| a segment of more than 255 bytes | pieces of 255 bytes; all but the last end with `!` |
| a key whose name would have more than 1,024 bytes | `!!/` and the SHA-256 of the key |

A key such as `acme/app/cas/1f-2_3.o` is its own name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Final
from urllib.parse import unquote_to_bytes

from forebay.cache._arguments import checked_text

_MAX_NAME: Final = 1024
"""The longest name of an object in S3, in bytes."""

_MAX_SEGMENT: Final = 255
"""The longest name of a file in most file systems, in bytes."""

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9/._-]+")
HASHED: Final = "!!/"
"""The first segment of the name of a key that is too long. No other name begins so."""


def object_name(key: str) -> str:
    """Return the name of the object that holds the artifact with this key.

    No two keys have the same name.

    Args:
        key: the artifact's key.

    Raises:
        TypeError: the key is not a str.
        ValueError: the key is empty or has half of a surrogate pair.
    """
    escaped = _UNSAFE.sub(_escaped, checked_text("key", key))
    name = "/".join(piece for segment in escaped.split("/") for piece in _pieces(segment))
    if len(name) <= _MAX_NAME:
        return name
    return f"{HASHED}{hashlib.sha256(key.encode()).hexdigest()}"


def object_prefix(prefix: str) -> str:
    """Return with what the names of all keys begin that begin with a prefix and are not too long.

    Args:
        prefix: one or more segments of a key, each with the slash behind it.

    Raises:
        TypeError: the prefix is not a str.
        ValueError: the prefix has half of a surrogate pair.
    """
    return object_name(f"{prefix}-").removesuffix("-")


def object_key(name: str) -> str | None:
    """Return the key whose object has this name.

    Args:
        name: a name that `object_name` returned.

    Returns:
        The key; None if its name would be too long, so that the name has only its SHA-256.

    Raises:
        ValueError: `object_name` returns this name for no key.
    """
    if name.startswith(HASHED) and re.fullmatch(r"[0-9a-f]{64}", name.removeprefix(HASHED)):
        return None
    segments = [""]
    for piece in name.split("/"):
        continued = piece.endswith("!") and piece != "!"
        segments[-1] += piece.removesuffix("!")
        if not continued:
            segments.append("")
    key = unquote_to_bytes("/".join(segments[:-1]).replace("!", "%"))
    with suppress(ValueError):
        if object_name(key.decode()) == name:
            return key.decode()
    raise ValueError(f"{name!r} is not the name of an object of this cache")


def _escaped(found: re.Match[str]) -> str:
    return "".join(f"!{byte:02X}" for byte in found[0].encode())


def _pieces(segment: str) -> Iterator[str]:
    if not segment:
        yield "!"
    elif segment in (".", ".."):
        yield segment.replace(".", "!2E")
    else:
        while len(segment) > _MAX_SEGMENT:
            end = _MAX_SEGMENT - 1
            # An escape has three characters, and "!" occurs only at the beginning of one.
            end = next((at for at in (end - 1, end - 2) if segment[at] == "!"), end)
            yield f"{segment[:end]}!"
            segment = segment[end:]
        yield segment
