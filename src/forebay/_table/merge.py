"""What a later row does to an earlier one with the same key, a column at a time.

The rule is stated twice in the project, once here for rows that meet in memory and once as SQL
for rows that meet in the table; a property test holds the two together.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Final

from forebay._table.sqlite_rules import INT64


class Merge(enum.Enum):
    """What a column becomes when a row is written whose key is already there.

    `None` (SQL's NULL) is no value: `SUM`, `MIN` and `MAX` yield the other one.
    """

    REPLACE = "replace"
    """The later value."""
    KEEP = "keep"
    """The earlier value. All columns `KEEP` is "insert, or ignore"."""
    SUM = "sum"
    """Both, added. Integers past 63 bits become floats, as in SQLite. Sums of floats may differ
    in the last digits from the sum in another order, since rows add up in memory first."""
    MIN = "min"
    """The smaller one."""
    MAX = "max"
    """The larger one."""

    def combine(self, old: Any, new: Any) -> Any:
        """Give the value of a column after `new` was written over `old`.

        Args:
            old: the value that is there, None for NULL.
            new: the value of the later row, None for NULL.

        Returns:
            What SQLite would hold after the same two writes.
        """
        return _COMBINE[self](old, new)


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
    # An infinity and its opposite: NULL in SQL, where COALESCE then leaves the earlier one.
    return total if total == total else old  # only NaN differs from itself


def _min(old: Any, new: Any) -> Any:
    if old is None or new is None:
        return new if old is None else old
    # Equal values of two types (1 and 1.0): min() of SQLite gives its last argument.
    return min(new, old)


def _max(old: Any, new: Any) -> Any:
    if old is None or new is None:
        return new if old is None else old
    # max() of SQLite gives its first argument when both are equal.
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
