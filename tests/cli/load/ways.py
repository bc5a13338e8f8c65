"""The ways in which programs write floats."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal


def positional(number: float) -> str:
    """Return a float without an exponent."""
    text = format(Decimal(repr(number)), "f")
    return text if "." in text else f"{text}.0"


WAYS: dict[str, Callable[[float], str]] = {
    "as Python": repr,
    "as Python, without .0": lambda number: repr(number).removesuffix(".0"),
    "without an exponent": positional,
    "without an exponent or .0": lambda number: positional(number).removesuffix(".0"),
}
