"""The compression of blocks in the spool and in requests."""

from __future__ import annotations

import gzip
import sys
from typing import Any, Final, Literal, TypeAlias, get_args

Compression: TypeAlias = Literal["zstd", "gzip", "none"]

_ZSTD_LEVEL: Final = 1
_GZIP_LEVEL: Final = 1
"""The fastest levels: rows of a batch are similar, so higher ones save little."""


def has_zstd() -> bool:
    """Return whether a library for zstd is installed."""
    try:
        _zstd()
    except ImportError:
        return False
    return True


def choose_compression(wanted: Compression | None) -> Compression:
    """Return the compression to use.

    Args:
        wanted: the compression that the program passed; None for the best that is installed.

    Raises:
        ValueError: it is unknown, or its library is not installed.
    """
    if wanted is None:
        return "zstd" if has_zstd() else "gzip"
    if wanted not in get_args(Compression):
        raise ValueError(f"compression={wanted!r}: expected one of {get_args(Compression)}")
    if wanted == "zstd" and not has_zstd():
        raise ValueError(
            "compression='zstd': no library for it is installed; "
            "install one with `pip install backports.zstd`, or pass 'gzip'"
        )
    return wanted


def compress(data: bytes, compression: str) -> bytes:
    """Return data in a compressed form."""
    if compression == "zstd":
        return bytes(_zstd().compress(data, level=_ZSTD_LEVEL))
    if compression == "gzip":
        return gzip.compress(data, _GZIP_LEVEL, mtime=0)
    return data


def decompress(data: bytes, compression: str) -> bytes:
    """Return what `compress` compressed.

    Raises:
        ValueError: the data is damaged, or the library for it is not installed any more.
    """
    if compression == "none":
        return data
    try:
        return bytes(_zstd().decompress(data) if compression == "zstd" else gzip.decompress(data))
    except Exception as error:  # each library has errors of its own
        raise ValueError(f"{compression} cannot decompress a block: {error}") from error


def _zstd() -> Any:
    """Return the module for zstd: of the standard library since Python 3.14, or its backport."""
    if sys.version_info >= (3, 14):  # pragma: no cover  # newer Python
        from compression import zstd  # noqa: PLC0415  # an option
    else:
        from backports import zstd  # noqa: PLC0415  # an option
    return zstd
