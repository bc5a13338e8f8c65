"""Make rows of a table from the result of a query, by the names of its columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from forebay._errors import DecodeError
from forebay._table.columns import Column
from forebay._table.decoding import decoder
from forebay._table.operations import Row
from forebay._table.row_types import row_maker
from forebay._table.sqlite_rules import fold_case
from forebay._table.table import Table

R = TypeVar("R")


class RowReader(Generic[R]):
    """Decodes the rows of one query's result. Columns that the table does not have are ignored.

    Args:
        table: the table.
        names: the names of the result's columns.

    Raises:
        ValueError: the result does not have each column of the table exactly once.
        TypeError: the constructor of the row type does not take all fields.
    """

    def __init__(self, table: Table[R], names: Sequence[str]) -> None:
        self._table = table
        folded = [fold_case(name) for name in names]
        counts = {column.name: folded.count(fold_case(column.name)) for column in table.columns}
        if missing := [name for name, number in counts.items() if number == 0]:
            raise ValueError(_mismatch(table, "does not have", missing, names))
        if repeated := [name for name, number in counts.items() if number > 1]:
            raise ValueError(_mismatch(table, "has more than one", repeated, names))
        self._positions = [folded.index(fold_case(column.name)) for column in table.columns]
        self._rowid = folded.index("rowid") if "rowid" in folded else None
        self._decoders = [decoder(column) for column in table.columns]
        self._make = row_maker(table.row_type, [column.field for column in table.columns])

    def read(self, rows: Sequence[Row]) -> list[R]:
        """Return the next rows of the result as rows of the table.

        Args:
            rows: the rows of the result.

        Raises:
            DecodeError: a stored value is not one of its column.
        """
        if not rows:
            return []
        # One column after another, since a loop over values of one type is faster.
        result = tuple(zip(*rows, strict=True))
        columns = [
            self._read_column(number, result[position], rows)
            for number, position in enumerate(self._positions)
        ]
        return list(map(self._make, zip(*columns, strict=True)))

    def _read_column(self, number: int, values: Sequence[Any], rows: Sequence[Row]) -> list[Any]:
        decode, nullable = self._decoders[number], self._table.columns[number].nullable
        if nullable or None not in values:
            try:
                return [None if value is None else decode(value) for value in values]
            except Exception:  # noqa: BLE001, S110  # a codec may raise anything; see below
                pass
        # Again, one by one, to find out which value it is.
        return list(self._read_values(number, values, rows))

    def _read_values(
        self, number: int, values: Sequence[Any], rows: Sequence[Row]
    ) -> Iterator[Any]:
        column, decode = self._table.columns[number], self._decoders[number]
        for row, value in zip(rows, values, strict=True):
            if value is None:
                if not column.nullable:
                    raise self._error(column, value, row, f"expected {column.expected}")
                yield None
                continue
            try:
                decoded = decode(value)
            except Exception as error:
                raise self._error(column, value, row, str(error) or repr(error)) from error
            yield decoded

    def _error(self, column: Column, value: Any, row: Row, why: str) -> DecodeError:
        shown = "NULL" if value is None else _shorten(repr(value))
        return DecodeError(
            f"table {self._table.name!r}, column {column.label}, {self._where(row)}: cannot decode "
            f"{shown}: {why}",
            table=self._table.name,
            column=column.name,
            value=value,
        )

    def _where(self, row: Row) -> str:
        if self._rowid is not None:
            return f"rowid {row[self._rowid]!r}"
        names = [column.name for column in self._table.columns]
        key = [(name, row[self._positions[names.index(name)]]) for name in self._table.key]
        if key:
            return "key " + ", ".join(f"{name}={_shorten(repr(value))}" for name, value in key)
        return "unknown row (the message has its rowid if the query selects rowid)"


_LONGEST = 200


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _mismatch(table: Table[Any], problem: str, columns: Iterable[str], names: Iterable[str]) -> str:
    return (
        f"table {table.name!r}: the result {problem} column {', '.join(map(repr, columns))}; "
        f"select each column of the table once, or leave out table=…; "
        f"the columns of the result are {', '.join(names)}"
    )
