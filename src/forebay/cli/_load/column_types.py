"""Tells the type of a column by its values, and keeps SQLite from changing a value.

A text becomes a number only where the number says the same: `12`, `-3`, `0.50` and `1.5e-07` do;
`007`, `+5`, ` 5`, `1e5`, `nan`, an integer past 63 bits and a decimal of more digits than a
float holds do not, and stay text. In a column that a table declares as numbers `1e5` is one, too.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from decimal import Decimal

from forebay._table.sqlite_rules import INT64

# Eighteen digits always fit 63 bits, nineteen may.
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
# An exponent asks for a point or a sign, as programs write it: 12E4 may well be somebody's name.
_DECIMAL = re.compile(
    r"-?(?:0|[1-9][0-9]*)?(?:\.[0-9]+(?:[eE][+-]?[0-9]{1,3})?|(?<=[0-9])[eE][+-][0-9]{1,3})"
)
_SCIENTIFIC = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?[eE][+-]?[0-9]{1,3}")
# What an INTEGER or REAL column of SQLite turns into a number (sqlite.org/datatype3.html, 3).
_SQLITE_NUMBER = re.compile(
    r"[ \t\n\v\f\r]*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[ \t\n\v\f\r]*"
)


class Kind(enum.Enum):
    """What a column holds; the value is the type of its rows' values in Python."""

    INTEGER = int
    REAL = float
    TEXT = str


def number_of(text: str, *, declared: bool = False) -> int | float | None:
    """The number that says the same as `text`, or None where there is none.

    Args:
        text: what may be a number.
        declared: whether a table says that numbers are what it is for.
    """
    if _INTEGER.fullmatch(text):
        integer = int(text)
        return integer if integer in INT64 else None
    if _DECIMAL.fullmatch(text) or (declared and _SCIENTIFIC.fullmatch(text)):
        real = float(text)
        return real if Decimal(repr(real)) == Decimal(text) else None
    return None


class JsonType(enum.Enum):
    """What a value is in JSON; the value is what a message calls it."""

    TEXT = "a text"
    NUMBER = "a number"
    BOOLEAN = "true or false"
    NESTED = "an array or an object"

    @classmethod
    def of(cls, value: object) -> JsonType:
        """The type of a value that is not null."""
        if isinstance(value, str):
            return cls.TEXT
        if isinstance(value, bool):
            return cls.BOOLEAN
        return cls.NUMBER if isinstance(value, int | float) else cls.NESTED


def reads_as_number(text: str) -> bool:
    """Whether a column of numbers in SQLite would turn `text` into a number."""
    return _SQLITE_NUMBER.fullmatch(text) is not None


def kind_of(numbers: Iterable[int | float | None]) -> Kind:
    """The kind of a column that holds `numbers`, where None stands for what is no number."""
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
