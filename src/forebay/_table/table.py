"""`Table`: which row type goes to which table, by which key, merged by which rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Generic, TypeVar

from forebay._table.columns import ACCEPTED, Column, annotations_of, folded, storage_of
from forebay._table.merge import Max, Merge, Min, Replace, Sum
from forebay._table.operations import Key, Row
from forebay._table.validation import RowCheck

R = TypeVar("R")

_COMPUTED = frozenset({Sum, Min, Max})


class Table(Generic[R]):
    """A table, as a program declares it: the shape of its rows and the rules of its writes.

    The fields of the row type are the table's columns, in order. With a `key`, a row that is
    written while a row with its key is there is merged into it by the `merge` rules. Without
    one the table is append-only: each row written is a row more.

    Example:
        >>> from typing import NamedTuple
        >>> class Hit(NamedTuple):
        ...     url: str
        ...     count: int
        ...     first_seen: float
        >>> Table(Hit, name="hits", key="url", merge={"count": Sum, "first_seen": Min})
        <forebay.Table 'hits' of Hit, key url>
    """

    def __init__(
        self,
        row_type: type[R],
        *,
        name: str,
        key: str | Sequence[str] | None = None,
        merge: Merge | Mapping[str, Merge] = Replace,
        delete_by: str | None = None,
        nan_as_null: bool = False,
        coalesce: bool = True,
    ) -> None:
        """Declare a table.

        Args:
            row_type: a NamedTuple, dataclass, attrs class or msgspec Struct whose fields are
                annotated with str, int, float, bytes, bool, or one of these or None.
            name: the table's name in the database; the buffer goes by it too.
            key: the column, or columns, that a UNIQUE constraint of the table covers; None for
                an append-only table. Key columns have exactly one type and are never None.
            merge: what a later row does to an earlier one with its key: one rule for all
                columns outside the key, or a rule by column (`Replace` where none is given).
            delete_by: a further column by whose value rows may be deleted.
            nan_as_null: SQLite holds no NaN, it stores NULL instead. False refuses a NaN where
                it is enqueued; True takes it as None.
            coalesce: whether entries of one key become one operation before they are written.
                The table does not see what was merged, so a row that it would have refused (by a
                CHECK, a trigger, …) is neither refused nor without effect where a later entry of
                its key is merged into it; and rows are written in the order of their keys. False
                executes each entry by itself, in order, at the price of more work for SQLite.

        Raises:
            TypeError: the row type, or an annotation, is nothing that SQLite can hold.
            ValueError: a name is empty, doubled or unknown, or a rule does not fit its column.
        """
        self._declare(
            row_type,
            annotations_of(row_type),
            name=name,
            key=key,
            merge=merge,
            delete_by=delete_by,
            nan_as_null=nan_as_null,
            coalesce=coalesce,
        )

    @classmethod
    def from_columns(
        cls,
        columns: Mapping[str, Any],
        *,
        name: str,
        key: str | Sequence[str] | None = None,
        merge: Merge | Mapping[str, Merge] = Replace,
        delete_by: str | None = None,
        nan_as_null: bool = False,
        coalesce: bool = True,
    ) -> Table[tuple[Any, ...]]:
        """Declare a table whose columns are known only at run time.

        Args:
            columns: the type of each column by its name, in order. Any name that SQLite takes
                will do; rows are plain tuples with a value for each column.
            name: as for `Table`.
            key: as for `Table`.
            merge: as for `Table`.
            delete_by: as for `Table`.
            nan_as_null: as for `Table`.
            coalesce: as for `Table`.

        Raises:
            TypeError: a type is nothing that SQLite can hold.
            ValueError: as for `Table`.
        """
        table: Table[tuple[Any, ...]] = Table.__new__(Table)
        table._declare(  # a second constructor
            tuple,
            columns,
            name=name,
            key=key,
            merge=merge,
            delete_by=delete_by,
            nan_as_null=nan_as_null,
            coalesce=coalesce,
        )
        return table

    def _declare(
        self,
        row_type: type[R],
        annotations: Mapping[str, Any],
        *,
        name: str,
        key: str | Sequence[str] | None,
        merge: Merge | Mapping[str, Merge],
        delete_by: str | None,
        nan_as_null: bool,
        coalesce: bool,
    ) -> None:
        self.name: str = _checked_name(name)
        self.row_type: type[R] = row_type
        if not annotations:
            raise ValueError(f"table {name!r} has no columns: its row type has no fields")
        self.key: tuple[str, ...] = () if key is None else _names(key)
        self.delete_by: str | None = delete_by
        self.nan_as_null: bool = nan_as_null
        self.coalesce: bool = coalesce
        rules = (
            merge
            if isinstance(merge, Mapping)
            else {column: merge for column in annotations if column not in self.key}
        )
        self.columns: tuple[Column, ...] = tuple(
            _column(name, column, annotation, rules.get(column, Replace))
            for column, annotation in annotations.items()
        )
        self._check_columns(rules, key)
        self._index = {column.name: i for i, column in enumerate(self.columns)}
        key_indexes = [self._index[column] for column in self.key]
        self.key_of: Callable[[Row], Key] = (
            itemgetter(*key_indexes) if key_indexes else _no_key(name)
        )
        self.values: tuple[Column, ...] = tuple(c for c in self.columns if c.name not in self.key)
        """The columns outside the key."""
        self.replaces: bool = all(column.merge is Replace for column in self.values)
        """Whether a later row of a key makes an earlier one void, whatever it held."""
        self.idempotent: bool = bool(self.key) and self.replaces and delete_by is None
        """Whether a batch may be done twice and leave what it leaves done once. Not so with other
        rules: an update that found no row finds the one that was written after it."""
        self.strict: frozenset[str] = frozenset(
            column.name
            for column in self.columns
            if column.name in self.key or column.name == delete_by or column.merge in _COMPUTED
        )
        """The columns whose values Python compares or adds where SQLite would."""
        self.check: RowCheck[R] = RowCheck(
            name,
            row_type,
            self.columns,
            self.key,
            delete_by,
            strict=self.strict,
            nan_as_null=nan_as_null,
        )
        """What takes, or refuses, what callers hand in."""

    def _check_columns(self, rules: Mapping[str, Merge], key: object) -> None:
        known = {column.name: column for column in self.columns}
        if len(set(map(folded, known))) < len(known):
            raise ValueError(
                f"table {self.name!r}: two columns have one name, as SQLite tells no case: "
                f"{', '.join(known)}"
            )
        for argument, names in (
            ("key", self.key),
            ("merge", rules),
            ("delete_by", (self.delete_by,) if self.delete_by is not None else ()),
        ):
            for column in names:
                if column not in known:
                    raise ValueError(
                        f"table {self.name!r}: {argument} names {column!r}, "
                        f"which is no column; there are {', '.join(known)}"
                    )
        if (key is not None and not self.key) or len(set(self.key)) < len(self.key):
            raise ValueError(f"table {self.name!r}: key must name each column once, got {key!r}")
        for part in (known[name] for name in self.key):
            if part.storage is None or part.nullable:
                raise TypeError(
                    f"table {self.name!r}: key column {part.name!r} must be of one type out of "
                    f"str, int, float and bytes, and never None (NULLs are never equal in SQL)"
                )
            if rules.get(part.name, Replace) is not Replace:
                raise ValueError(
                    f"table {self.name!r}: key column {part.name!r} has a merge rule, "
                    f"but rows with one key have it in common; drop the rule"
                )
        if not self.key and any(rule is not Replace for rule in rules.values()):
            raise ValueError(
                f"table {self.name!r}: merge rules need a key, which tells what a row is merged "
                f"with; name one, or drop the rules"
            )
        if self.delete_by is not None and known[self.delete_by].storage is None:
            raise TypeError(
                f"table {self.name!r}: delete_by column {self.delete_by!r} must be of one type "
                f"out of str, int, float and bytes"
            )

    def __repr__(self) -> str:
        key = f"key {', '.join(self.key)}" if self.key else "append-only"
        return f"<forebay.Table {self.name!r} of {self.row_type.__name__}, {key}>"

    def merged(self, old: Row, new: Row) -> Row:
        """Give the row that is there after `new` was written over `old`."""
        return tuple(map(_combine, self.columns, old, new))

    def replaced(self, row: Row, columns: Mapping[str, Any]) -> Row:
        """Give a row with some columns set."""
        values = list(row)
        for name, value in columns.items():
            values[self._index[name]] = value
        return tuple(values)

    def column(self, name: str) -> Column:
        """Give a column by its name."""
        return self.columns[self._index[name]]

    def value_in(self, row: Row, column: str) -> Any:
        """Give the value that a row has in a column."""
        return row[self._index[column]]


def _combine(column: Column, old: Any, new: Any) -> Any:
    return column.merge.combine(old, new)


def _names(key: object) -> tuple[str, ...]:
    if isinstance(key, str):
        return (key,)
    if not isinstance(key, Iterable):
        raise TypeError(f"key must be the name of a column, or names of several; got {key!r}")
    return tuple(key)


def _no_key(name: str) -> Callable[[Row], Key]:
    def key_of(_row: Row) -> Key:
        raise TypeError(f"table {name!r} has no key")

    return key_of


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not _is_name(name):
        raise ValueError(f"name must be text that is not empty, without NUL; got {name!r}")
    if folded(name).startswith("sqlite_"):
        raise ValueError(f"name {name!r} is SQLite's own: choose one without 'sqlite_'")
    if folded(name).startswith("forebay_"):
        raise ValueError(f"name {name!r} is forebay's own: choose one without 'forebay_'")
    return name


def _is_name(name: str) -> bool:
    # A lone surrogate has no UTF-8 form, in which SQLite keeps names.
    return bool(name) and not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in name)


def _column(table: str, name: str, annotation: Any, rule: Merge) -> Column:
    if not _is_name(name):
        raise ValueError(
            f"table {table!r}: a column cannot be named {name!r}; choose text that is not empty, "
            f"without NUL"
        )
    if not isinstance(rule, Merge):
        raise TypeError(f"table {table!r}: merge of {name!r} must be a forebay.Merge, not {rule!r}")
    try:
        storage, nullable = storage_of(annotation)
    except TypeError as error:
        raise TypeError(f"table {table!r}, column {name!r}: {error}") from None
    fits = {Sum: (int, float), Min: tuple(ACCEPTED), Max: tuple(ACCEPTED)}.get(rule)
    if fits is not None and storage not in fits:
        raise TypeError(
            f"table {table!r}: column {name!r} is declared {annotation!r}, but "
            f"{rule.name.capitalize()} needs one of {', '.join(kind.__name__ for kind in fits)}"
        )
    return Column(name, storage, nullable, rule)
