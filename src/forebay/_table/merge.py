"""The merge rules: what a column becomes when a later row has the key of an earlier one.

Each rule is written twice in the project: here for rows that merge in memory, and as SQL for rows
that merge in the table. A property test checks that both give the same result.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Final

from forebay._table.sqlite_rules import INT64


class Merge(enum.Enum):
    """What a column becomes when a row is written whose key exists already.

    `SUM`, `MIN` and `MAX` ignore `None` (NULL in SQL): the result is the other value.
    """

    REPLACE = "replace"
    """The later value."""
    KEEP = "keep"
    """The earlier value. A table with `KEEP` in all columns does "insert or ignore"."""
    SUM = "sum"
    """The sum of both. As in SQLite, the sum of integers becomes a float if it does not fit into
    64 bits. Rows are added in memory first where that cannot overflow, so a sum of floats may
    differ in its last digits from the sum in the order of acceptance."""
    MIN = "min"
    """The smaller value."""
    MAX = "max"
    """The larger value."""

    def combine(self, old: Any, new: Any) -> Any:
        """Return the value of a column after `new` was written over `old`.

        Args:
            old: the earlier value; None for NULL.
            new: the later value; None for NULL.

        Returns:
            The value that SQLite stores after the same two writes.
        """
        return _COMBINE[self](old, new)

    def is_associative(self, first: Any, second: Any) -> bool:
        """Return whether two values may be combined before they meet an earlier value.

        The result must be the same for every earlier value. This can be false only for `SUM`.

        Args:
            first: the value of the column in one row; None for NULL.
            second: the value in the next row; None for NULL.
        """
        return self is not Merge.SUM or first is None or second is None or _may_add(first, second)


def _replace(_old: Any, new: Any) -> Any:
    return new


def _keep(old: Any, _new: Any) -> Any:
    return old


def _sum(old: Any, new: Any) -> Any:
    if old is None or new is None:
        return new if old is None else old
    total = old + new
    # https://sqlite.org/lang_expr.html: an integer that overflows becomes a REAL.
    if isinstance(total, int) and total not in INT64:
        return float(old) + float(new)
    # Infinity plus minus infinity is NULL in SQL, where COALESCE then picks the earlier value.
    return total if total == total else old  # only NaN differs from itself


_SMALL: Final = 2.0**970
"""To add a smaller float to any finite float gives a finite float, rounded to even."""


def _may_add(first: Any, second: Any) -> bool:
    """Return whether x + first + second overflows for the same x as x + (first + second)."""
    if isinstance(first, float) or isinstance(second, float):
        return bool(abs(first) + abs(second) < _SMALL)
    # With different signs, x + first could become a float although the whole sum is an integer.
    return first * second >= 0 and first + second in INT64


def _min(old: Any, new: Any) -> Any:
    if old is None or new is None:
        return new if old is None else old
    # If 1 and 1.0 are compared, min() of SQLite returns its last argument.
    return min(new, old)


def _max(old: Any, new: Any) -> Any:
    if old is None or new is None:
        return new if old is None else old
    # If 1 and 1.0 are compared, max() of SQLite returns its first argument.
    return max(old, new)


_COMBINE: Final[dict[Merge, Callable[[Any, Any], Any]]] = {
    Merge.REPLACE: _replace,
    Merge.KEEP: _keep,
    Merge.SUM: _sum,
    Merge.MIN: _min,
    Merge.MAX: _max,
}

Replace: Final = Merge.REPLACE
Keep: Final = Merge.KEEP
Sum: Final = Merge.SUM
Min: Final = Merge.MIN
Max: Final = Merge.MAX
