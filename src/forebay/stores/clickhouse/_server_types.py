"""The types of ClickHouse's columns, as `system.columns` names them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_CALL: Final = re.compile(r"(\w+)(?:\((.*)\))?", re.DOTALL)
_ENUM_MEMBER: Final = re.compile(r"'((?:[^'\\]|\\.|'')*)'\s*=\s*(-?\d+)", re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)|''", re.DOTALL)
_ESCAPES: Final = {"b": "\b", "f": "\f", "r": "\r", "n": "\n", "t": "\t", "0": "\0", "a": "\a"}


@dataclass(frozen=True, slots=True)
class ServerType:
    """The type of one column.

    Attributes:
        name: the name of the innermost type, such as `Decimal`.
        arguments: the arguments of the innermost type, such as `("20", "4")`.
        nullable: whether the column allows NULL.
        aggregate: the function of a `SimpleAggregateFunction`, or None.
    """

    name: str
    arguments: tuple[str, ...] = ()
    nullable: bool = False
    aggregate: str | None = None

    def __str__(self) -> str:
        """Return the type in which values are sent: the server converts to `LowCardinality`."""
        arguments = f"({', '.join(self.arguments)})" if self.arguments else ""
        inner = f"{self.name}{arguments}"
        return f"Nullable({inner})" if self.nullable else inner

    def members(self) -> dict[str, int]:
        """Return the names and the numbers of an `Enum8` or `Enum16`."""
        return {
            _unescape(name): int(number)
            for argument in self.arguments
            for name, number in _ENUM_MEMBER.findall(argument)
        }


def parse_type(text: str) -> ServerType:
    """Return the type that `system.columns` names.

    Args:
        text: such as ``SimpleAggregateFunction(max, Nullable(Int64))``.
    """
    match = _CALL.fullmatch(text.strip())
    if match is None:
        return ServerType(text)
    name, inside = match[1], match[2]
    arguments = () if inside is None else tuple(split_arguments(inside))
    if name == "SimpleAggregateFunction" and len(arguments) == 2:
        inner = parse_type(arguments[1])
        return ServerType(inner.name, inner.arguments, inner.nullable, arguments[0])
    if name == "LowCardinality" and len(arguments) == 1:
        return parse_type(arguments[0])
    if name == "Nullable" and len(arguments) == 1:
        inner = parse_type(arguments[0])
        return ServerType(inner.name, inner.arguments, nullable=True)
    return ServerType(name, arguments)


def split_arguments(text: str) -> Iterator[str]:
    """Yield the parts of a text between its outermost commas.

    Args:
        text: arguments or a list of expressions; quotes and parentheses are respected.
    """
    depth, start, quote, position = 0, 0, "", 0
    while position < len(text):
        character = text[position]
        if quote:
            if character == "\\":
                position += 1
            elif character == quote:
                quote = ""
        elif character in "'`\"":
            quote = character
        elif character in "([":
            depth += 1
        elif character in ")]":
            depth -= 1
        elif character == "," and depth == 0:
            yield text[start:position].strip()
            start = position + 1
        position += 1
    if text[start:].strip():
        yield text[start:].strip()


def call_arguments(text: str) -> list[str]:
    """Return the arguments of the call with which a text begins; none if it begins with a name.

    Args:
        text: such as an engine with its settings: ``Distributed('c', 'd', 't') SETTINGS …``.
    """
    match = re.match(r"\w+\(", text)
    if match is None:
        return []
    inside = text[match.end() :]
    depth = 1
    for position, character in enumerate(inside):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            inside = inside[:position]
            break
    return list(split_arguments(inside))


def quote_name(name: str) -> str:
    """Return an identifier in backquotes."""
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def quote_text(text: str) -> str:
    """Return a text as a literal of ClickHouse's SQL."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def unquote_name(text: str) -> str:
    """Return an identifier without its backquotes, if it has any."""
    if len(text) >= 2 and text[0] == text[-1] == "`":
        return _unescape(text[1:-1])
    return text


def _unescape(text: str) -> str:
    def character(match: re.Match[str]) -> str:
        return "'" if match[1] is None else _ESCAPES.get(match[1], match[1])

    return _ESCAPED.sub(character, text)
