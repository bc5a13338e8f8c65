"""Generate a function that recognises a valid row, which is several times as fast as a loop.

The function tests the exact types of a row's values, and what the type does not say: that an
integer fits into 64 bits, and that a float is not NaN. It is used for each row that is enqueued.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Container, Sequence
from operator import attrgetter
from typing import Any, Final

from forebay._table.columns import Column
from forebay._table.operations import Row
from forebay._table.sqlite_rules import INT64

_BY_FREQUENCY: Final = (str, int, float, bytes, bool)


def compile_recognizer(
    row_type: type, columns: Sequence[Column], key: Container[str]
) -> Callable[[Any], Row | None]:
    """Return a function that takes a row, and returns its stored values if they are valid.

    The function returns None if the row must be checked value by value: it is invalid, or a value
    needs a conversion. It raises no `Exception`.

    Args:
        row_type: the type of the rows.
        columns: the columns of the table.
        key: the names of the key columns. A key with a zero is checked value by value, since -0.0
            must become 0.0.
    """
    objects: dict[str, Any] = {"row_type": row_type}
    names = [f"v{i}" for i in range(len(columns))]
    tests: list[str] = []
    stored: list[str] = []
    for i, column in enumerate(columns):
        codec, in_key = column.type.codec, column.name in key
        if codec is None:
            tests.append(_test(column, f"v{i}", in_key=in_key))
            stored.append(f"v{i}")
            continue
        objects[f"encode{i}"] = codec.encode
        objects[f"types{i}"] = column.type.accepts
        if object not in column.type.accepts:
            is_none = f"v{i} is None or " if column.nullable else ""
            tests.append(f"({is_none}type(v{i}) in types{i})")
        encoded = f"encode{i}(v{i})"
        if column.nullable:
            encoded = f"None if v{i} is None else {encoded}"
        # `s` is assigned in the first test of its type.
        tests.append(f"((s{i} := {encoded}), {_test(column, f's{i}', in_key=in_key)})[1]")
        stored.append(f"s{i}")
    if issubclass(row_type, tuple):
        unpack = [f"{', '.join(names)}, = row"]
        result = "row" if stored == names else f"({', '.join(stored)},)"
    else:
        unpack = list(map(_read_attribute, names, columns))
        for name, column in zip(names, columns, strict=True):
            objects[f"get_{name}"] = attrgetter(column.field)
        result = f"({', '.join(stored)},)"
    source = "\n".join(
        [
            "def recognize(row):",
            "    if type(row) is row_type:",
            "        try:",
            *(f"            {line}" for line in unpack),
            f"            if {' and '.join(tests)}:",
            f"                return {result}",
            # The program's code may raise anything: a property of a row, a codec. The check value
            # by value raises it again. The wrong length of a tuple comes here, too.
            "        except Exception:",
            "            pass",
            "    return None",
        ]
    )
    # The text has numbers, names of types and names of attributes, nothing else of a program.
    exec(source, objects)  # noqa: S102  # see above
    recognize: Callable[[Any], Row | None] = objects["recognize"]
    return recognize


def _read_attribute(name: str, column: Column) -> str:
    """Return the statement that reads the value of a column from an attribute of a row."""
    attribute = column.field
    # The compiler would change the name of an attribute that has other letters than these.
    if attribute.isascii() and attribute.isidentifier() and not keyword.iskeyword(attribute):
        return f"{name} = row.{attribute}"
    return f"{name} = get_{name}(row)"


def _test(column: Column, name: str, *, in_key: bool) -> str:
    accepted = [t for t in _BY_FREQUENCY if t in column.type.stored]
    tests = [_type_test(t, name, in_key=in_key) for t in accepted]
    if column.nullable:
        tests.append(f"{name} is None")
    return f"({' or '.join(tests)})"


def _type_test(accepted: type, name: str, *, in_key: bool) -> str:
    test = f"type({name}) is {accepted.__name__}"
    if accepted is int:
        return f"{test} and {INT64.start} <= {name} < {INT64.stop}"
    if accepted is float:
        return f"{test} and {name} == {name}" + (f" and {name} != 0.0" if in_key else "")
    return test
