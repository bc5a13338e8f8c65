"""Convert the cells of CSV to the values of the table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from forebay._table.sqlite_rules import INT64
from forebay.cli._load.column_types import (
    SPELLINGS_OF_DECIMALS,
    ColumnType,
    equal_number,
    exact_number,
)
from forebay.cli._load.target_columns import (
    MisfitError,
    TargetColumn,
    check_value,
    excerpt,
    fit_number,
    misfit,
)

# Values repeat, and a remembered number costs a tenth of a converted one. The bounds keep a wide
# table of unique values below some ten megabytes.
_REMEMBERED = 4096
_REMEMBERED_TOGETHER = 16_384
"""For all columns of integers that convert alike: so the numbers stay in the processor's cache."""
_REMEMBERED_LENGTH = 40
_NO_DECIMAL = frozenset("en")
"""Characters of what `repr` writes for a float that is no decimal: 1e-05, inf, nan."""


class _Memo(dict[str, Any]):
    """Remembers the values of texts.

    Args:
        convert: converts a text.
        bound: how many texts are remembered.

    Attributes:
        misses: how many texts were converted.
        overflowed: whether there were more texts than are remembered.
    """

    def __init__(self, convert: Callable[[str], Any], bound: int) -> None:
        super().__init__()
        self.misses = 0
        self.overflowed = False
        self._convert = convert
        self._bound = bound

    def __missing__(self, text: str) -> Any:
        self.misses += 1
        value = self._convert(text)
        if len(text) <= _REMEMBERED_LENGTH:
            if len(self) >= self._bound:
                self.overflowed = True
                self.clear()
            self[text] = value
        return value


class SharedMemos:
    """The memos of the columns of a table that convert every text alike.

    Args:
        nulls: the texts that mean NULL.
    """

    def __init__(self, nulls: Collection[str]) -> None:
        self.nulls = frozenset(nulls)
        self._memos: dict[tuple[bool, ...], _Memo] = {}

    def of(self, column: TargetColumn, convert: Callable[[str], Any]) -> _Memo:
        """Return the memo of a column, whose cells `convert` converts."""
        if column.type is not ColumnType.INTEGER or column.holds_others:
            return _Memo(convert, _REMEMBERED)
        alike = (column.in_key, column.not_null, column.declared)
        return self._memos.setdefault(alike, _Memo(convert, _REMEMBERED_TOGETHER))


class CellConverter:
    """Converts the cells of a column.

    Args:
        column: the column.
        shared: the memos of the table's columns.

    Attributes:
        convert: takes a cell and returns the value of the table; `str` if it is the cell itself.
    """

    def __init__(self, column: TargetColumn, shared: SharedMemos) -> None:
        self._column = column
        self._nulls = shared.nulls
        self._memo = shared.of(column, self._convert)
        self._values_vary = False
        self._exact = _ExactNumbers(column)
        # A key must give back its text: otherwise the keys 1.1 and 1.10 would be one.
        exact = column.in_key or not column.declared
        self._number_of = self._exact if exact else equal_number
        is_text = column.type is ColumnType.TEXT and not self._nulls
        self.convert: Callable[[str], Any] = str if is_text else self._remembered

    def _remembered(self, text: str) -> Any:
        try:
            return self._memo[text]
        except MisfitError:
            return self._convert(text)  # raises an error that names this column

    def convert_all(self, cells: Sequence[str]) -> Sequence[Any]:
        """Return the values of the cells of several rows."""
        column = self._column
        if column.type is ColumnType.TEXT:
            # To look for a few texts takes less time than to hash each cell.
            if not any(map(cells.__contains__, self._nulls)):
                return cells
            if not (column.in_key or column.not_null):
                return [None if text in self._nulls else text for text in cells]
            return list(map(self.convert, cells))
        if self._values_vary and (numbers := self._plain_numbers(cells)) is not None:
            return numbers
        memo = self._memo
        before = memo.misses
        values = list(map(memo.__getitem__, cells))
        self._values_vary = memo.overflowed and memo.misses - before > len(cells) // 2
        return values

    def _plain_numbers(self, cells: Sequence[str]) -> Sequence[int] | Sequence[float] | None:
        """Return the numbers if all cells are numbers as Python writes them, or None.

        For values that do not repeat, this is several times as fast as to convert each alone.
        """
        try:
            if self._column.type is ColumnType.INTEGER:
                integers = list(map(int, cells))
                fit = min(integers) in INT64 and max(integers) in INT64
                return integers if fit and list(map(str, integers)) == list(cells) else None
            floats = list(map(float, cells))
        except ValueError:
            return None
        if list(map(repr, floats)) != list(cells) or not _NO_DECIMAL.isdisjoint("".join(cells)):
            return None
        if "-0.0" in cells:  # which SQLite stores as 0.0
            return None
        ends = any(cell.endswith(".0") for cell in cells)
        spellings = self.spellings & SPELLINGS_OF_DECIMALS[ends]
        if not spellings:
            return None
        self._exact.spellings = spellings
        return floats

    @property
    def spellings(self) -> int:
        """The ways to write a float that give back all texts so far."""
        return self._exact.spellings

    def go_back(self, spellings: int) -> None:
        """Forget what was learned since the column had these ways to write a float."""
        self._exact.spellings = spellings
        self._memo.clear()

    def _convert(self, text: str) -> Any:
        column = self._column
        if text in self._nulls:
            return check_value(column, None)
        if column.type is ColumnType.TEXT:
            return text
        if not text:
            # The text '' would be greater than every number in the column.
            return check_value(column, None)
        number = self._number_of(text)
        return fit_number(column, text if number is None else number)


class _ExactNumbers:
    """Converts texts that the numbers of a column give back.

    Args:
        column: the column.

    Attributes:
        spellings: the ways to write a float that give back all texts so far.
    """

    def __init__(self, column: TargetColumn) -> None:
        self.spellings = column.spellings
        self._column = column

    def __call__(self, text: str) -> int | float | None:
        number = exact_number(text)
        if number is None:
            return None
        if self._column.type is ColumnType.INTEGER:
            if isinstance(number.value, int):
                return number.value
            if number.value.is_integer() and int(number.value) in INT64:
                return None  # SQLite would store 1.0 as 1
        if not number.spellings:
            return number.value  # an integer that no float equals, which does not fit
        spellings = self.spellings & number.spellings
        if not spellings:
            problem = f"{excerpt(text)} in column {self._column.name!r} is written differently"
            raise misfit(self._column, f"{problem} from the numbers before it")
        self.spellings = spellings
        return number.value
