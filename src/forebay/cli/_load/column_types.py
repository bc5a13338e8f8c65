"""Detect the type of a column from its values, and the values that SQLite would change.

A text is a number only if the number is written so: `12`, `-3`, `0.50` and `1.5e-07` are numbers;
`007`, `+5`, ` 5`, `1e5`, `nan`, an integer of more than 64 bits and a decimal with more digits than
a float holds are texts. In a column that a table declares as numbers, `1e5` is a number too.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from decimal import Decimal

from forebay._table.sqlite_rules import INT64

# Eighteen digits always fit into 64 bits with a sign, nineteen may.
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
# An exponent needs a point or a sign, as programs write it: 12E4 may be an identifier.
_DECIMAL = re.compile(
    r"-?(?:0|[1-9][0-9]*)?(?:\.[0-9]+(?:[eE][+-]?[0-9]{1,3})?|(?<=[0-9])[eE][+-][0-9]{1,3})"
)
_SCIENTIFIC = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?[eE][+-]?[0-9]{1,3}")
# The texts that an INTEGER or REAL column converts to numbers (sqlite.org/datatype3.html, 3).
_SQLITE_NUMBER = re.compile(
    r"[ \t\n\v\f\r]*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[ \t\n\v\f\r]*"
)


class Kind(enum.Enum):
    """The type of a column. The member's value is the Python type of its values."""

    INTEGER = int
    REAL = float
    TEXT = str


def number_of(text: str, *, declared: bool = False) -> int | float | None:
    """Return the number that a text is, or None.

    Args:
        text: the text.
        declared: whether a table declares that the column has numbers.
    """
    if _INTEGER.fullmatch(text):
        integer = int(text)
        return integer if integer in INT64 else None
    if _DECIMAL.fullmatch(text) or (declared and _SCIENTIFIC.fullmatch(text)):
        real = float(text)
        return real if Decimal(repr(real)) == Decimal(text) else None
    return None


class JsonType(enum.Enum):
    """The type of a value in JSON. The member's value is its name in messages."""

    TEXT = "a text"
    NUMBER = "a number"
    BOOLEAN = "true or false"
    NESTED = "an array or an object"

    @classmethod
    def of(cls, value: object) -> JsonType:
        """Return the type of a value that is not null."""
        if isinstance(value, str):
            return cls.TEXT
        if isinstance(value, bool):
            return cls.BOOLEAN
        return cls.NUMBER if isinstance(value, int | float) else cls.NESTED


def reads_as_number(text: str) -> bool:
    """Return whether SQLite converts the text to a number in a column of numbers."""
    return _SQLITE_NUMBER.fullmatch(text) is not None


def kind_of(numbers: Iterable[int | float | None]) -> Kind:
    """Return the type of a column with these numbers; None means a value that is not a number."""
    real = False
    whole = False
    beyond = False  # an integer that no float equals
    for number in numbers:
        if number is None:
            return Kind.TEXT
        if isinstance(number, float):
            real = True
        else:
            whole = True
            beyond = beyond or number != float(number)
    if real:
        return Kind.TEXT if beyond else Kind.REAL
    return Kind.INTEGER if whole else Kind.TEXT
