"""Check what a program passes to `Table`: names, annotations, the key and the merge rules."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, cast

from forebay._table.codecs import Codec
from forebay._table.columns import (
    VALUE_TYPES,
    Column,
    check_equality,
    join_alternatives,
    parse_annotation,
)
from forebay._table.merge import Max, Merge, Min, Replace, Sum
from forebay._table.sqlite_rules import find_duplicate, fold_case, is_name

_ONE_TYPE = "must have exactly one of the types str, int, float and bytes"


def check_table_name(name: object) -> str:
    """Return the name of a table, after a check.

    Args:
        name: the name that the program passed.

    Raises:
        ValueError: SQLite cannot store such a name, or the name is reserved.
    """
    if not isinstance(name, str) or not is_name(name):
        raise ValueError(
            f"table name must be a non-empty text without NUL characters, got {name!r}"
        )
    for prefix, owner in (("sqlite_", "SQLite"), ("forebay_", "forebay")):
        if fold_case(name).startswith(prefix):
            raise ValueError(
                f"table name {name!r} is reserved for {owner}; "
                f"choose a name that does not start with {prefix!r}"
            )
    return name


def key_names(table: str, key: object) -> tuple[str, ...]:
    """Return the names of the key columns.

    Args:
        table: the table's name, for the error.
        key: the name of one column, or the names of several.

    Raises:
        TypeError: `key` is neither a text nor iterable.
    """
    if isinstance(key, str):
        return (key,)
    if not isinstance(key, Iterable):
        raise TypeError(
            f"table {table!r}: key must be a column name or a sequence of column names, got {key!r}"
        )
    return tuple(key)


def check_mapping(table: str, argument: str, mapping: object, fields: Collection[str]) -> None:
    """Check an argument of `Table` that has something per field.

    Args:
        table: the table's name, for the errors.
        argument: the name of the argument, for the errors.
        mapping: what the program passed.
        fields: the fields of the row type.

    Raises:
        TypeError: it is not a mapping.
        ValueError: a field is unknown.
    """
    if not isinstance(mapping, Mapping):
        raise TypeError(
            f"table {table!r}: {argument} must be a mapping by field of the row type, "
            f"got {mapping!r}"
        )
    for field in cast("Mapping[Any, object]", mapping):
        if field not in fields:
            raise ValueError(
                f"table {table!r}: {argument} names the unknown field {field!r}; "
                f"the fields are {', '.join(fields)}"
            )


def declare_column(table: str, field: str, annotation: Any, rule: Merge, *, name: object) -> Column:
    """Return the column that an annotation and a merge rule declare, without a default.

    Args:
        table: the table's name, for the errors.
        field: the name of the row type's field.
        annotation: the annotation of the field.
        rule: the column's merge rule.
        name: the column's name.

    Raises:
        TypeError: SQLite cannot store such values, or the rule cannot merge them.
        ValueError: SQLite cannot store such a name.
    """
    if not isinstance(name, str) or not is_name(name):
        raise ValueError(
            f"table {table!r}: invalid column name {name!r}; "
            f"use a non-empty text without NUL characters"
        )
    if not isinstance(rule, Merge):
        raise TypeError(
            f"table {table!r}, column {name!r}: merge must be a forebay.Merge, "
            f"got {rule!r}; use forebay.Replace, Keep, Sum, Min or Max"
        )
    try:
        column_type = parse_annotation(annotation)
    except TypeError as error:
        raise TypeError(f"table {table!r}, column {name!r}: {error}") from None
    mergeable = {Sum: (int, float), Min: tuple(VALUE_TYPES), Max: tuple(VALUE_TYPES)}.get(rule)
    column = Column(name, field, column_type, rule)
    if rule in {Sum, Min, Max} and column_type.codec is not None:
        _check_rule_of_codec(table, column, column_type.codec)
    if mergeable is not None and not (column.storage in mergeable and column.has_one_type):
        raise TypeError(
            f"table {table!r}, column {name!r}: declared as {annotation!r}, but "
            f"{rule.name.capitalize()} needs {join_alternatives(t.__name__ for t in mergeable)}"
        )
    return column


def _check_rule_of_codec(table: str, column: Column, codec: Codec[Any]) -> None:
    where = f"table {table!r}, column {column.name!r}"
    rule = column.merge.name.capitalize()
    if column.merge is Sum:
        raise TypeError(
            f"{where}: Sum needs int or float, but {column.expected} is stored by a codec, as "
            f"{codec.storage.__name__}"
        )
    if not codec.keeps_order:
        raise TypeError(
            f"{where}: {rule} needs values whose order is that of what is stored; "
            f"{column.expected} is stored as {codec.storage.__name__}, in another order"
        )


def check_columns(
    table: str,
    columns: Sequence[Column],
    *,
    key: tuple[str, ...] | None,
    rules: Mapping[str, Merge],
    delete_by: str | None,
) -> None:
    """Check that the columns, key, merge rules and `delete_by` of a table fit together.

    Args:
        table: the table's name, for the errors.
        columns: the table's columns.
        key: the fields of the key columns; None for an append-only table.
        rules: the merge rules that the program passed, by field.
        delete_by: the field of the column by whose value rows may be deleted, or None.

    Raises:
        TypeError: the type of a key column, or of the `delete_by` column, cannot be compared.
        ValueError: a name is unknown or duplicate, or a merge rule can have no effect.
    """
    known = {column.field: column for column in columns}
    if duplicate := find_duplicate(column.name for column in columns):
        raise ValueError(
            f"table {table!r}: duplicate column names {duplicate[0]!r} and {duplicate[1]!r}: "
            f"column names are case-insensitive in SQLite"
        )
    for argument, names in (
        ("key", key or ()),
        ("merge", rules),
        ("delete_by", () if delete_by is None else (delete_by,)),
    ):
        for name in names:
            if name not in known:
                fields = {column.name: column.field for column in columns}
                hint = (
                    f" (column {name!r} has the field {fields[name]!r}, which is to be named)"
                    if name in fields
                    else ""
                )
                raise ValueError(
                    f"table {table!r}: {argument} names the unknown column {name!r}; "
                    f"the columns are {', '.join(known)}{hint}"
                )
    if key is not None:
        _check_key(table, known, key, rules)
    elif any(rule is not Replace for rule in rules.values()):
        raise ValueError(
            f"table {table!r}: merge rules need a key, since rows merge by key; "
            f"add a key or remove the rules"
        )
    if delete_by is not None and not known[delete_by].has_one_type:
        raise TypeError(f"table {table!r}: delete_by column {delete_by!r} {_ONE_TYPE}")
    if delete_by is not None:
        check_equality(table, known[delete_by], "delete_by column")


def _check_key(
    table: str, known: Mapping[str, Column], key: tuple[str, ...], rules: Mapping[str, Merge]
) -> None:
    if not key or len(set(key)) < len(key):
        raise ValueError(
            f"table {table!r}: key must name one or more columns, each only once, got {key!r}"
        )
    for column in (known[name] for name in key):
        if not column.has_one_type or column.nullable:
            raise TypeError(
                f"table {table!r}: key column {column.name!r} {_ONE_TYPE}, "
                f"and must not allow None (NULLs are never equal in SQL)"
            )
        check_equality(table, column, "key column")
        if rules.get(column.field, Replace) is not Replace:
            raise ValueError(
                f"table {table!r}: key column {column.name!r} has a merge rule, but rows that "
                f"merge have the same key; remove the rule"
            )
