"""The metadata of objects in S3: short texts of ASCII, sent as headers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, unquote

from forebay.cache._arguments import checked_metadata, checked_sha256
from forebay.cache.object_names import object_key
from forebay.cache.object_storage import ObjectInfo

_KEY: Final = "forebay-key"
_SHA256: Final = "forebay-sha256"
_METADATA: Final = "forebay-metadata"

_MAX_BYTES: Final = 2_048
"""See https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html."""


def metadata_of(key: str, name: str, info: ObjectInfo) -> dict[str, str]:
    """Return the metadata of an object.

    Args:
        key: the artifact's key.
        name: the object's name.
        info: what to keep with the object.

    Raises:
        ValueError: there is not enough space.
    """
    metadata: dict[str, str] = {}
    if info.sha256 is not None:
        metadata[_SHA256] = info.sha256
    if info.metadata:
        text = json.dumps(dict(info.metadata), ensure_ascii=False, separators=(",", ":"))
        metadata[_METADATA] = quote(text)
    if (size := _size(metadata)) > _MAX_BYTES:
        raise ValueError(
            f"the metadata of artifact {key!r} needs {size} bytes, percent-encoded, but an object "
            f"of S3 has {_MAX_BYTES} for it; store shorter texts with the artifact"
        )
    if object_key(name) is None:
        named = {**metadata, _KEY: quote(key, safe="")}
        if _size(named) <= _MAX_BYTES:
            return named
    return metadata


def info_of(metadata: Mapping[str, str]) -> ObjectInfo:
    """Return what the metadata of an object has. Objects of other programs may have nothing.

    Raises:
        ValueError: the metadata was not written by this module.
    """
    sha256 = metadata.get(_SHA256)
    texts: Any = json.loads(unquote(metadata.get(_METADATA, "{}")))
    try:
        return ObjectInfo(
            None if sha256 is None else checked_sha256(_SHA256, sha256),
            checked_metadata(_METADATA, texts),
        )
    except TypeError as error:
        raise ValueError(str(error)) from None


def key_of(metadata: Mapping[str, str]) -> str:
    """Return the key in the metadata of an object, or "" if the metadata has none."""
    return unquote(metadata.get(_KEY, ""))


def _size(metadata: Mapping[str, str]) -> int:
    return sum(len(name) + len(value) for name, value in metadata.items())
