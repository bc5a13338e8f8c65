"""Check operations with stored values, such as the unsettled entries of an error."""

from __future__ import annotations

from typing import Any

from forebay._table.operations import Delete, DeleteBy, Entry, Operation, Update, Write
from forebay._table.table import Table, table_of_stored_values
from forebay._table.validation import RowValidator


class EntryValidator:
    """Check operations on one table whose values are stored values.

    Args:
        table: the table.
    """

    def __init__(self, table: Table[Any]) -> None:
        self._name = table.name
        self._validator = RowValidator(table_of_stored_values(table))

    def validate(self, operation: Operation) -> Entry:
        """Check an operation and return it as a buffer holds it.

        Args:
            operation: an operation on the table.

        Raises:
            TypeError: it is not an operation, the table does not allow it, or a value is not of
                the type that its column stores.
            ValueError: a row or a key has a wrong number of values, or SQLite cannot store a value.
        """
        match operation:
            case Write(row):
                return self._validator.validate_row(row)
            case Update(key, columns):
                return Update(
                    self._validator.validate_key(key), self._validator.validate_update(columns)
                )
            case Delete(key):
                return Delete(self._validator.validate_key(key))
            case DeleteBy(value):
                return DeleteBy(self._validator.validate_delete_by(value))
        raise TypeError(
            f"table {self._name!r}: expected a forebay.Write, Update, Delete or DeleteBy, as in "
            f"`FlushError.unsettled.entries`, got {operation!r}"
        )
