"""`Index`: the declaration of an index of a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from forebay._table.columns import Column, check_equality
from forebay._table.sqlite_rules import find_duplicate, fold_case, is_name


@dataclass(frozen=True, init=False)
class Index:
    """An index of a table: a member of `Table(..., indexes=[…])`.

    Attributes:
        columns: the fields of the indexed columns, in order. In `Table.indexes`: the columns' names
            in the database.
        unique: whether no two rows may have the same values in these columns. A row that would be
            the second becomes a dead letter.
        where: an SQL expression, or None. The index contains only the rows for which it is true,
            and `unique` holds among them.
        name: its name in the database. Empty: ``idx_``, the table's name and those of the columns.

    Example:
        >>> Index("state", "created", where="state <> 'done'")
        Index('state', 'created', where="state <> 'done'")
    """

    columns: tuple[str, ...]
    unique: bool
    where: str | None
    name: str

    def __init__(
        self, *columns: str, unique: bool = False, where: str | None = None, name: str = ""
    ) -> None:
        """Declare an index. The arguments are the attributes.

        Raises:
            TypeError: an argument has a wrong type.
            ValueError: there is no column, a column is there twice, or SQLite does not accept the
                name or the text of `where`.
        """
        for column in columns:
            if not isinstance(column, str):
                raise TypeError(f"an index names fields of the row type, got {column!r}")
        if not columns or len(set(columns)) < len(columns):
            raise ValueError(
                f"an index must name one or more columns, each only once, got {columns!r}"
            )
        if not isinstance(unique, bool):
            raise TypeError(f"unique={unique!r}: pass True or False")
        if where is not None and not isinstance(where, str):
            raise TypeError(f"where={where!r}: pass an SQL expression as a str")
        if where is not None and not (where.strip() and is_name(where)):
            raise ValueError(f"where={where!r}: pass an SQL expression without NUL characters")
        if not isinstance(name, str):
            raise TypeError(f"name={name!r}: pass a str")
        if name and (not is_name(name) or fold_case(name).startswith("sqlite_")):
            raise ValueError(
                f"invalid name of an index {name!r}: use a text without NUL characters that does "
                f"not start with 'sqlite_', which is reserved for SQLite"
            )
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "unique", unique)
        object.__setattr__(self, "where", where)
        object.__setattr__(self, "name", name)

    def __repr__(self) -> str:
        arguments = [
            *map(repr, self.columns),
            *(["unique=True"] if self.unique else []),
            *([] if self.where is None else [f"where={self.where!r}"]),
            *([f"name={self.name!r}"] if self.name else []),
        ]
        return f"Index({', '.join(arguments)})"


Indexes: TypeAlias = Iterable[str | tuple[str, ...] | list[str] | Index]
"""What a program passes as `indexes`: an `Index`, or only the field or fields of one."""


def declare_indexes(
    table: str, indexes: object, columns: Mapping[str, Column]
) -> tuple[Index, ...]:
    """Return the indexes of a table, each with its name and with the names of its columns.

    Args:
        table: the table's name.
        indexes: what the program passed.
        columns: the table's columns, by field.

    Raises:
        TypeError: `indexes` is not a sequence of such values, or a unique index has a column
            whose equal values may be stored differently.
        ValueError: an index is invalid, names an unknown field, or two have the same name.
    """
    if isinstance(indexes, str | Index) or not isinstance(indexes, Iterable):
        raise TypeError(
            f"table {table!r}: indexes must be a sequence, one member per index, got {indexes!r}; "
            f"put it into a list"
        )
    declared = tuple(_declare(table, index, columns) for index in indexes)
    if duplicate := find_duplicate(index.name for index in declared):
        raise ValueError(
            f"table {table!r}: two indexes have the name {duplicate[0]!r}; give one of them "
            f"another name: forebay.Index(…, name=…)"
        )
    return declared


def _declare(table: str, declared: object, columns: Mapping[str, Column]) -> Index:
    if isinstance(declared, Index):
        index = declared
    else:
        if not isinstance(declared, str | tuple | list):
            raise TypeError(
                f"table {table!r}: an index is a field, a sequence of fields, or a forebay.Index, "
                f"got {declared!r}"
            )
        try:
            index = Index(*([declared] if isinstance(declared, str) else declared))
        except (TypeError, ValueError) as error:
            raise type(error)(f"table {table!r}, indexes: {error}") from None
    for field in index.columns:
        if field not in columns:
            raise ValueError(
                f"table {table!r}: indexes names the unknown field {field!r}; "
                f"the fields are {', '.join(columns)}"
            )
    if index.unique:
        for field in index.columns:
            check_equality(table, columns[field], "unique index column")
    names = [columns[field].name for field in index.columns]
    return Index(
        *names,
        unique=index.unique,
        where=index.where,
        name=index.name or "_".join(["idx", table, *names]),
    )
