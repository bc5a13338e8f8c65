"""How the values of one column are sent: what all types have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from forebay._portable import Portable
from forebay.stores.clickhouse._server_types import ServerType


class ValueRefusedError(Portable, ValueError):
    """A column of the server cannot hold a value exactly. The row becomes a dead letter."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the values of one column are sent. No value is None.

    Attributes:
        encode: returns the bytes of values, one after another. It raises `ValueRefusedError`.
        decode: takes bytes and the number of values in them, and returns the values.
        filler: the value that stands where the column has NULL.
    """

    encode: Callable[[Sequence[Any]], bytes]
    decode: Callable[[bytes, int], list[Any]]
    filler: Any


def out_of_range(value: object, server: ServerType) -> ValueRefusedError:
    """Return the error for a value that a type does not hold."""
    return ValueRefusedError(f"{value!r} does not fit into {server.name}")
