"""The types of columns, and the texts that are numbers.

A text is a number only if the number is written back as the same text: `12`, `-3`, `0.5` and
`1.5e-07` are numbers; `007`, `+5`, ` 5`, `.5`, `1e5`, `nan`, an integer of more than 64 bits and a
decimal with more digits than a float holds are texts.

Programs write numbers in several ways: 2.0 as `2.0` or `2`, and 0.00001 as `1e-05` or `0.00001`.
Each way gives one text per number. So a column of floats is REAL only if one way gives back all
its texts: then no two of them are the same number.

The detectors of sqlite-utils (`TypeTracker`), pyarrow and duckdb take 007 and 1e5 for numbers, and
so lose how they are written.
"""

from __future__ import annotations

import enum
import math
import re
from decimal import Decimal
from typing import NamedTuple

from forebay._table.sqlite_rules import INT64

# Eighteen digits always fit into 64 bits with a sign, nineteen may.
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
# A float has a point or an exponent. Without them it may be an identifier of many digits.
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+(?:e[+-][0-9]{2,3})?|e[+-][0-9]{2,3})")
_DECLARED_FLOAT = re.compile(
    r"-?(?:(?:0|[1-9][0-9]*)?\.[0-9]+(?:[eE][+-]?[0-9]{1,3})?"
    r"|(?:0|[1-9][0-9]*)[eE][+-]?[0-9]{1,3})"
)
# The texts that an INTEGER or REAL column converts to numbers (sqlite.org/datatype3.html, 3).
_SQLITE_NUMBER = re.compile(
    r"[ \t\n\v\f\r]*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[ \t\n\v\f\r]*"
)
_LONGEST_NUMBER = 400
"""In characters. The smallest float has 326 without an exponent; then come zeros."""

ALL_SPELLINGS = 0b1111
"""A set of ways to write a float, as bits. `_write` has them in the order of the bits."""
_SPELLINGS_OF_INTEGERS = 0b1010
SPELLINGS_OF_DECIMALS = {False: 0b1111, True: 0b0101}
"""The ways that give a decimal without an exponent, by whether it ends in `.0`."""
_SMALL_INTEGER = 10**15
"""Floats hold all integers below, and all four ways write them without an exponent."""


class ColumnType(enum.Enum):
    """The type of a column. The member's value is the Python type of its values."""

    INTEGER = int
    REAL = float
    TEXT = str


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


JSON_TYPES = {
    ColumnType.INTEGER: JsonType.NUMBER,
    ColumnType.REAL: JsonType.NUMBER,
    ColumnType.TEXT: JsonType.TEXT,
}
"""The JSON type of the values that a column stores as they are."""


class Number(NamedTuple):
    """A number, and the ways to write it as a float that give back its text."""

    value: int | float
    spellings: int


class RoundedFloat(float):
    """A number in JSON that no float holds exactly.

    Attributes:
        text: the number as it is written in the input.
    """

    text: str


class DetectedType(NamedTuple):
    """The type of a column, and the ways to write floats that give back its texts."""

    type: ColumnType
    spellings: int = ALL_SPELLINGS


def exact_number(text: str) -> Number | None:
    """Return the number that is written as this text, or None."""
    if len(text) > _LONGEST_NUMBER:
        return None
    if _INTEGER.fullmatch(text):
        integer = int(text)
        return Number(integer, _spellings(text, integer)) if integer in INT64 else None
    if not _FLOAT.fullmatch(text):
        return None
    number = float(text)
    spellings = _spellings(text, number)
    return Number(number, spellings) if spellings else None


def _spellings(text: str, number: float) -> int:
    """Return the ways to write a number as a float that give this text."""
    if isinstance(number, int):
        if -_SMALL_INTEGER < number < _SMALL_INTEGER:
            return _SPELLINGS_OF_INTEGERS
        if number != float(number):
            return 0
        number = float(number)
    if math.isinf(number) or (number == 0 and text.startswith("-")):
        return 0  # SQLite stores -0.0 as 0.0
    if "e" not in text and text == repr(number):
        return SPELLINGS_OF_DECIMALS[text.endswith(".0")]
    return sum(1 << bit for bit, written in enumerate(_write(number)) if written == text)


def _write(number: float) -> tuple[str, str, str, str]:
    """Return a float as programs write it: with and without exponents, with and without `.0`."""
    shortest = repr(number)
    positional = format(Decimal(shortest), "f")
    if "." not in positional:
        positional += ".0"
    return shortest, shortest.removesuffix(".0"), positional, positional.removesuffix(".0")


def equal_number(text: str) -> int | float | None:
    """Return the number that is equal to a decimal, however it is written, or None.

    This is for a column that an existing table declares as numbers: `1.50` and `1e3` are accepted,
    and decimals that no number of 64 bits equals are not.
    """
    if len(text) > _LONGEST_NUMBER:
        return None
    if _INTEGER.fullmatch(text):
        integer = int(text)
        return integer if integer in INT64 else None
    if not _DECLARED_FLOAT.fullmatch(text):
        return None
    number = float(text)
    return number if not math.isinf(number) and is_exact(number, text) else None


def is_exact(number: float, text: str) -> bool:
    """Return whether a float is equal to a decimal up to the digits that identify the float."""
    return Decimal(repr(number)) == Decimal(text)


def reads_as_number(text: str) -> bool:
    """Return whether SQLite converts the text to a number in a column of numbers."""
    return _SQLITE_NUMBER.fullmatch(text) is not None


class TypeDetector:
    """Detects the type of a column from its values, in any order."""

    def __init__(self) -> None:
        self._spellings = ALL_SPELLINGS
        self._has_integers = False
        self._has_floats = False
        self._has_texts = False

    def add(self, number: Number | None) -> None:
        """Take a value into account: a number, or None for a value that is not a number."""
        if number is None:
            self._has_texts = True
            return
        self._spellings &= number.spellings
        if isinstance(number.value, float):
            self._has_floats = True
        else:
            self._has_integers = True

    @property
    def is_text(self) -> bool:
        """Whether the type is TEXT, whatever the other values are."""
        return self._has_texts

    @property
    def detected(self) -> DetectedType:
        """The type of the column for the values so far."""
        if self._has_texts or not (self._has_floats or self._has_integers):
            return DetectedType(ColumnType.TEXT)
        if not self._has_floats:
            return DetectedType(ColumnType.INTEGER)
        if not self._spellings:
            return DetectedType(ColumnType.TEXT)
        return DetectedType(ColumnType.REAL, self._spellings)
