"""Generate a function that recognises a valid row, which is several times as fast as a loop.

The function tests the exact types of a row's values, and what the type does not say: that an
integer fits into 64 bits, and that a float is not NaN. It is used for each row that is enqueued.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Final, cast

from forebay._table.columns import Column
from forebay._table.sqlite_rules import INT64

_BY_FREQUENCY: Final = (str, int, float, bytes, bool)


def compile_check(columns: tuple[Column, ...], key: Container[str]) -> Callable[..., bool]:
    """Return a function that takes the values of a row and returns whether SQLite can store them.

    False means only that the values must be checked one by one: a value may need a conversion.

    Args:
        columns: the columns of the table.
        key: the names of the key columns. A key with a zero is checked one by one, since -0.0
            must become 0.0.
    """
    names = [f"v{i}" for i in range(len(columns))]
    tests = [
        _test(column, name, in_key=column.name in key)
        for column, name in zip(columns, names, strict=True)
    ]
    # The text has numbers and the names of types only, nothing that a program declared.
    source = f"lambda {', '.join(names)}: {' and '.join(tests)}"
    return cast("Callable[..., bool]", eval(source))  # noqa: S307  # see above


def _test(column: Column, name: str, *, in_key: bool) -> str:
    accepted = [t for t in _BY_FREQUENCY if t in column.type.accepts]
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
