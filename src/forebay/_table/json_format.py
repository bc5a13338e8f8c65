r"""Operations and declarations as text: JSON that a person can read and any tool can parse. Pure.

A dead letter and a spill file hold what a table refused, or what there was no time for, until
somebody has mended the cause: days later, perhaps in a program that knows the table no more. So
an operation names its columns, and the declaration of its table is kept beside it.

JSON carries texts, most numbers and null. For the rest a value is an object with one member:

- ``{"base64": "AP8="}``: bytes;
- ``{"float": "inf"}``: a float that is no finite number;
- ``{"int": "9007199254740993"}``: an integer past 53 bits, which readers that know only floats
  would change; past 64 bits in hexadecimal, since Python limits the digits of a decimal one;
- ``{"escaped": "caf\\udce9"}``: a text with lone surrogates, which no UTF-8 holds, in the escapes
  of a Python string.
"""

from __future__ import annotations

import json
import math
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from forebay._table.merge import Merge
from forebay._table.operations import Delete, DeleteBy, Operation, Row, Update, Write
from forebay._table.sqlite_rules import INT64
from forebay._table.table import Table, key_getter

_EXACT_IN_A_FLOAT: Final = range(-(2**53) + 1, 2**53)
_LONGEST_NAME: Final = 200
"""Characters of a row or a key that a message shows."""


def operation_name(operation: Operation) -> str:
    """Name what an operation does: ``write``, ``update``, ``delete`` or ``delete_by``."""
    return _NAMES[type(operation)]


def named(table: Table[Any], operation: Operation) -> str:
    """Name an operation in a message: what it does, and to which key or which row."""
    match operation:
        case Write(row) if table.key:
            of = _encode_key(table, key_getter(table)(row))
        case Write(row):
            of = _encode_columns((column.name for column in table.columns), row)
        case Update(key) | Delete(key):
            of = _encode_key(table, key)
        case DeleteBy(value):
            of = _encode_columns((str(table.delete_by),), (value,))
    text = _dump(of)
    if len(text) > _LONGEST_NAME:
        text = f"{text[:_LONGEST_NAME]}…"
    return f"{operation_name(operation)} of {text}"


def encode_operation(table: Table[Any], operation: Operation) -> str:
    """Give an operation as JSON.

    Args:
        table: the table it is for.
        operation: what was to be done.

    Returns:
        One line, without NUL or lone surrogates: an object whose one member is named for the
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
        case DeleteBy(value):
            body = _encode_columns((str(table.delete_by),), (value,))
    return _dump({operation_name(operation): body})


def decode_operation(table: Table[Any], text: str) -> Operation:
    """Give the operation that `encode_operation` gave as JSON.

    Args:
        table: the table it is for: the one it was encoded with, or its decoded declaration.
        text: the JSON.

    Raises:
        ValueError: it is no JSON, or no operation of this table.
    """
    [(name, body)] = _object(load_json(text), of=1, what="an operation").items()
    columns = tuple(column.name for column in table.columns)
    match name:
        case "write":
            return Write(_decode_columns(columns, body))
        case "update":
            parts = _object(body, of=2, what="an update")
            if set(parts) != {"key", "set"}:
                raise ValueError(f"an update has 'key' and 'set', not {', '.join(parts)}")
            changes = _object(parts["set"], what="'set'")
            if not changes or not set(changes) <= set(columns) - set(table.key):
                raise ValueError(
                    f"'set' names columns of {table.name!r} outside its key, "
                    f"not {', '.join(changes) or 'none'}"
                )
            values = {column: _decode_value(value) for column, value in changes.items()}
            return Update(_decode_key(table, parts["key"]), values)
        case "delete":
            return Delete(_decode_key(table, body))
        case "delete_by":
            if table.delete_by is None:
                raise ValueError(f"table {table.name!r} declares no delete_by column")
            return DeleteBy(_decode_columns((table.delete_by,), body)[0])
        case _:
            raise ValueError(f"{name!r} is no operation: expected {', '.join(_NAMES.values())}")


def encode_declaration(table: Table[Any]) -> str:
    """Give what a table was declared with as JSON, its row type aside.

    Returns:
        One line, without NUL or lone surrogates.
    """
    return _dump(
        {
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
    """Declare the table that `encode_declaration` gave as JSON. Its rows are plain tuples.

    Args:
        text: the JSON.

    Raises:
        ValueError: it is no JSON, or no declaration of a table.
    """
    declared = load_json(text)
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
        raise ValueError(f"this is no declaration of a table ({error!r}): {text}") from error


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
            f"expected the columns {', '.join(names)}, not {', '.join(columns) or 'none'}"
        )
    return tuple(_decode_value(columns[name]) for name in names)


def _encode_value(value: Any) -> Any:
    match value:
        case bool():
            return int(value)  # as SQLite holds it
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
        [(tag, text)] = _object(value, of=1, what="a tagged value").items()
        if tag not in _TAGS or not isinstance(text, str):
            raise ValueError(f"{value!r} is no value: expected a tag of {', '.join(_TAGS)}")
        return _TAGS[tag](text)
    if isinstance(value, list):
        raise ValueError(f"{value!r} is a list, which is no value")  # noqa: TRY004  # bad data
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


def load_json(text: str) -> Any:
    """Give what a text of JSON holds.

    Raises:
        ValueError: it is no JSON, or is nested too deep for any letter.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deep to be read") from None


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _object(value: Any, *, what: str, of: int | None = None) -> dict[str, Any]:
    if not isinstance(value, dict) or (of is not None and len(value) != of):
        members = "" if of is None else f" of {of} member{'s' * (of > 1)}"
        raise ValueError(f"{what} must be an object{members}, not {value!r}")
    return value
