r"""Encode operations and table declarations as JSON, which people and other tools can read.

Dead letters and spill files use this format. They are read once the cause is fixed: perhaps days
later, by a program that no longer declares the table. So an operation names its columns, and the
declaration of its table is stored next to it. The declaration also has the version of the format,
for itself and for the operations; without one it has format 1.

JSON has texts, most numbers and null. Every other value is an object with one member:

- ``{"base64": "AP8="}``: bytes;
- ``{"float": "inf"}``: an infinite float;
- ``{"int": "9007199254740993"}``: an integer beyond 53 bits, which readers that store numbers as
  floats would change. An integer beyond 64 bits is hexadecimal, since Python limits the number of
  decimal digits that it converts;
- ``{"escaped": "caf\\udce9"}``: a text with lone surrogates, which UTF-8 cannot encode, with the
  escapes of a Python string.
"""

from __future__ import annotations

import json
import math
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from forebay._format import FORMAT, check_format
from forebay._table.merge import Merge
from forebay._table.operations import Delete, DeleteBy, Operation, Row, Update, Write
from forebay._table.sqlite_rules import INT64
from forebay._table.table import Table, key_getter

_EXACT_IN_A_FLOAT: Final = range(-(2**53) + 1, 2**53)
_MAX_DESCRIPTION: Final = 200
"""How many characters of a row or a key a message shows."""


def operation_name(operation: Operation) -> str:
    """Return the name of an operation: ``write``, ``update``, ``delete`` or ``delete_by``."""
    return _NAMES[type(operation)]


def describe_operation(table: Table[Any], operation: Operation) -> str:
    """Return a short text for a message: the operation's name, and its key, row or value."""
    match operation:
        case Write(row) if table.key:
            target = _encode_key(table, key_getter(table)(row))
        case Write(row):
            target = _encode_columns((column.name for column in table.columns), row)
        case Update(key) | Delete(key):
            target = _encode_key(table, key)
        case DeleteBy(value):  # pragma: no branch  # the last kind
            target = _encode_columns((str(table.delete_by),), (value,))
    text = _dump(target)
    if len(text) > _MAX_DESCRIPTION:
        text = f"{text[:_MAX_DESCRIPTION]}…"
    return f"{operation_name(operation)} of {text}"


def encode_operation(table: Table[Any], operation: Operation) -> str:
    """Return an operation as JSON.

    Args:
        table: the table of the operation.
        operation: the operation.

    Returns:
        One line without NUL or lone surrogates: an object whose only member has the name of the
        operation, such as ``{"write": {"key": "a", "size": 10}}`` or
        ``{"update": {"key": {"key": "a"}, "set": {"size": 12}}}``.
    """
    match operation:
        case Write(row):
            body = _encode_columns((column.name for column in table.columns), row)
        case Update(key, columns):
            body = {
                "key": _encode_key(table, key),
                "set": _encode_columns(columns, tuple(columns.values())),
            }
        case Delete(key):
            body = _encode_key(table, key)
        case DeleteBy(value):  # pragma: no branch  # the last kind
            body = _encode_columns((str(table.delete_by),), (value,))
    return _dump({operation_name(operation): body})


def decode_operation(table: Table[Any], text: str) -> Operation:
    """Return the operation that `encode_operation` encoded.

    Args:
        table: the table of the operation: the same one, or its decoded declaration.
        text: the JSON.

    Raises:
        ValueError: the text is not JSON, or not an operation of this table.
    """
    [(name, body)] = _object(parse_json(text), members=1, what="an operation").items()
    columns = tuple(column.name for column in table.columns)
    match name:
        case "write":
            return Write(_decode_columns(columns, body))
        case "update":
            parts = _object(body, members=2, what="an update")
            if set(parts) != {"key", "set"}:
                raise ValueError(f"an update must have 'key' and 'set', got {', '.join(parts)}")
            changes = _object(parts["set"], what="'set'")
            if not changes or not set(changes) <= set(columns) - set(table.key):
                raise ValueError(
                    f"'set' must name columns of {table.name!r} outside its key, "
                    f"got {', '.join(changes) or 'none'}"
                )
            values = {column: _decode_value(value) for column, value in changes.items()}
            return Update(_decode_key(table, parts["key"]), values)
        case "delete":
            return Delete(_decode_key(table, body))
        case "delete_by":
            if table.delete_by is None:
                raise ValueError(f"table {table.name!r} has no delete_by column")
            return DeleteBy(_decode_columns((table.delete_by,), body)[0])
        case _:
            raise ValueError(f"unknown operation {name!r}: expected {', '.join(_NAMES.values())}")


def encode_declaration(table: Table[Any]) -> str:
    """Return the declaration of a table, without its row type, as JSON.

    Returns:
        One line without NUL or lone surrogates.
    """
    return _dump(
        {
            "format": FORMAT,
            "name": table.name,
            "columns": [
                {
                    "name": column.name,
                    "type": "any" if column.storage is None else column.storage.__name__,
                    "nullable": column.nullable,
                    "merge": column.merge.value,
                }
                for column in table.columns
            ],
            "key": list(table.key),
            "delete_by": table.delete_by,
            "nan_as_null": table.nan_as_null,
            "coalesce": table.coalesce,
        }
    )


def decode_declaration(text: str) -> Table[tuple[Any, ...]]:
    """Return the table that `encode_declaration` encoded. Its rows are plain tuples.

    Args:
        text: the JSON.

    Raises:
        ValueError: the text is not JSON, is not the declaration of a table, or has a newer format.
    """
    declared = parse_json(text)
    if isinstance(declared, dict):
        check_format(declared.get("format", 1))
    try:
        key = tuple(declared["key"])
        columns = {column["name"]: _ANNOTATIONS[column["type"]] for column in declared["columns"]}
        for column in declared["columns"]:
            if column["nullable"]:
                columns[column["name"]] |= None
        merge = {
            column["name"]: Merge(column["merge"])
            for column in declared["columns"]
            if column["name"] not in key
        }
        return Table.from_columns(
            columns,
            name=declared["name"],
            key=key or None,
            merge=merge if key else {},
            delete_by=declared["delete_by"],
            nan_as_null=declared["nan_as_null"],
            coalesce=declared.get("coalesce", True),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"invalid declaration of a table ({error!r}): {text}") from error


_NAMES: Final[Mapping[type[Operation], str]] = {
    Write: "write",
    Update: "update",
    Delete: "delete",
    DeleteBy: "delete_by",
}

_ANNOTATIONS: Final[Mapping[str, Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "bytes": bytes,
    "any": str | int | float | bytes,
}


def _encode_key(table: Table[Any], key: Any) -> dict[str, Any]:
    return _encode_columns(table.key, key if len(table.key) > 1 else (key,))


def _decode_key(table: Table[Any], body: Any) -> Any:
    if not table.key:
        raise ValueError(f"table {table.name!r} has no key")
    values = _decode_columns(table.key, body)
    return values[0] if len(values) == 1 else values


def _encode_columns(names: Iterable[str], values: Row) -> dict[str, Any]:
    return {name: _encode_value(value) for name, value in zip(names, values, strict=True)}


def _decode_columns(names: tuple[str, ...], body: Any) -> Row:
    columns = _object(body, what="a row or a key")
    if set(columns) != set(names):
        raise ValueError(
            f"expected the columns {', '.join(names)}, got {', '.join(columns) or 'none'}"
        )
    return tuple(_decode_value(columns[name]) for name in names)


def _encode_value(value: Any) -> Any:
    match value:
        case bool():
            return int(value)  # as SQLite stores it
        case int() if value not in _EXACT_IN_A_FLOAT:
            return {"int": str(value) if value in INT64 else hex(value)}
        case float() if not math.isfinite(value):
            return {"float": str(value)}
        case bytes():
            return {"base64": b64encode(value).decode()}
        case str() if _has_surrogates(value):
            return {"escaped": value.encode("unicode_escape").decode()}
        case _:
            return value


def _decode_value(value: Any) -> Any:
    if isinstance(value, dict):
        [(tag, text)] = _object(value, members=1, what="a tagged value").items()
        if tag not in _TAGS or not isinstance(text, str):
            raise ValueError(
                f"invalid value {value!r}: expected a text with one of the tags {', '.join(_TAGS)}"
            )
        return _TAGS[tag](text)
    if isinstance(value, list):
        raise ValueError(f"invalid value {value!r}: lists are not allowed")  # noqa: TRY004  # bad data
    return value


def _integer(text: str) -> int:
    return int(text, 0)


def _bytes(text: str) -> bytes:
    return b64decode(text, validate=True)


def _unescaped(text: str) -> str:
    return text.encode("ascii").decode("unicode_escape")


_TAGS: Final[Mapping[str, Callable[[str], Any]]] = {
    "base64": _bytes,
    "float": float,
    "int": _integer,
    "escaped": _unescaped,
}


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def parse_json(text: str) -> Any:
    """Return the value of a JSON text.

    Args:
        text: the JSON.

    Raises:
        ValueError: the text is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _object(value: Any, *, what: str, members: int | None = None) -> dict[str, Any]:
    if not isinstance(value, dict) or (members is not None and len(value) != members):
        size = "" if members is None else f" with {members} member{'s' * (members > 1)}"
        raise ValueError(f"{what} must be an object{size}, got {value!r}")
    return value
