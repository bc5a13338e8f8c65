"""Generate a function that recognises a valid row, which is several times as fast as a loop.

The function tests the exact types of a row's values, and what the type does not say: that an
integer fits into 64 bits, and that a float is not NaN. It is used for each row that is enqueued.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, Final, Literal, cast

from forebay._table.columns import Column
from forebay._table.operations import Row
from forebay._table.sqlite_rules import INT64

_BY_FREQUENCY: Final = (str, int, float, bytes, bool)


def compile_check(
    columns: tuple[Column, ...], key: Container[str]
) -> Callable[..., bool] | Callable[..., Row | Literal[False]]:
    """Return a function that takes the values of a row and returns whether they are valid.

    If a column has a codec, the function returns the stored values instead of True. It raises what
    the codec raises. False means only that the values must be checked one by one: a value may need
    a conversion.

    Args:
        columns: the columns of the table.
        key: the names of the key columns. A key with a zero is checked one by one, since -0.0
            must become 0.0.
    """
    names = [f"v{i}" for i in range(len(columns))]
    tests: list[str] = []
    stored: list[str] = []
    objects: dict[str, Any] = {}
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
    result = f" and ({', '.join(stored)},)" if objects else ""
    # The text has numbers and the names of types only, nothing that a program declared.
    source = f"lambda {', '.join(names)}: {' and '.join(tests)}{result}"
    return cast("Callable[..., bool]", eval(source, objects))  # noqa: S307  # see above


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
