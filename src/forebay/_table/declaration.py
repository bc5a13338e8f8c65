"""Check what a program passes to `Table`: names, annotations, the key and the merge rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from forebay._table.columns import VALUE_TYPES, Column, parse_annotation
from forebay._table.merge import Max, Merge, Min, Replace, Sum
from forebay._table.sqlite_rules import fold_case


def check_table_name(name: object) -> str:
    """Return the name of a table, after a check.

    Raises:
        ValueError: the name is not a text that can name a table, or it is reserved.
    """
    if not isinstance(name, str) or not _is_name(name):
        raise ValueError(f"name must be text that is not empty, without NUL; got {name!r}")
    if fold_case(name).startswith("sqlite_"):
        raise ValueError(f"name {name!r} is SQLite's own: choose one without 'sqlite_'")
    if fold_case(name).startswith("forebay_"):
        raise ValueError(f"name {name!r} is forebay's own: choose one without 'forebay_'")
    return name


def key_names(key: object) -> tuple[str, ...]:
    """Return the names of the key columns.

    Args:
        key: one name, or several.

    Raises:
        TypeError: `key` is neither a text nor iterable.
    """
    if isinstance(key, str):
        return (key,)
    if not isinstance(key, Iterable):
        raise TypeError(f"key must be the name of a column, or names of several; got {key!r}")
    return tuple(key)


def declare_column(table: str, name: str, annotation: Any, rule: Merge) -> Column:
    """Return the column that an annotation and a merge rule declare.

    Args:
        table: the table's name, for the errors.
        name: the column's name.
        annotation: the annotation of the row type's field.
        rule: the column's merge rule.

    Raises:
        TypeError: SQLite cannot store such values, or the rule does not work on them.
        ValueError: a column cannot have this name.
    """
    if not _is_name(name):
        raise ValueError(
            f"table {table!r}: a column cannot be named {name!r}; choose text that is not empty, "
            f"without NUL"
        )
    if not isinstance(rule, Merge):
        raise TypeError(f"table {table!r}: merge of {name!r} must be a forebay.Merge, not {rule!r}")
    try:
        storage, nullable = parse_annotation(annotation)
    except TypeError as error:
        raise TypeError(f"table {table!r}, column {name!r}: {error}") from None
    fits = {Sum: (int, float), Min: tuple(VALUE_TYPES), Max: tuple(VALUE_TYPES)}.get(rule)
    if fits is not None and storage not in fits:
        raise TypeError(
            f"table {table!r}: column {name!r} is declared {annotation!r}, but "
            f"{rule.name.capitalize()} needs one of {', '.join(kind.__name__ for kind in fits)}"
        )
    return Column(name, storage, nullable, rule)


def check_columns(
    table: str,
    columns: Sequence[Column],
    *,
    key: tuple[str, ...] | None,
    rules: Mapping[str, Merge],
    delete_by: str | None,
) -> None:
    """Check that a table's columns, key, merge rules and `delete_by` fit together.

    Args:
        table: the table's name, for the errors.
        columns: the table's columns.
        key: the names of the key columns; None for an append-only table.
        rules: the merge rules that the program passed, by column.
        delete_by: the column for `enqueue_delete_by`, or None.

    Raises:
        TypeError: the type of a key column, or of the `delete_by` column, cannot be compared.
        ValueError: a name is unknown or doubled, or a rule has no use.
    """
    known = {column.name: column for column in columns}
    if len(set(map(fold_case, known))) < len(known):
        raise ValueError(
            f"table {table!r}: two columns have one name, as SQLite tells no case: "
            f"{', '.join(known)}"
        )
    for argument, names in (
        ("key", key or ()),
        ("merge", rules),
        ("delete_by", () if delete_by is None else (delete_by,)),
    ):
        for column in names:
            if column not in known:
                raise ValueError(
                    f"table {table!r}: {argument} names {column!r}, "
                    f"which is no column; there are {', '.join(known)}"
                )
    if key is not None:
        _check_key(table, known, key, rules)
    elif any(rule is not Replace for rule in rules.values()):
        raise ValueError(
            f"table {table!r}: merge rules need a key, which tells what a row is merged "
            f"with; name one, or drop the rules"
        )
    if delete_by is not None and known[delete_by].storage is None:
        raise TypeError(
            f"table {table!r}: delete_by column {delete_by!r} must be of one type "
            f"out of str, int, float and bytes"
        )


def _check_key(
    table: str, known: Mapping[str, Column], key: tuple[str, ...], rules: Mapping[str, Merge]
) -> None:
    if not key or len(set(key)) < len(key):
        raise ValueError(f"table {table!r}: key must name each column once, got {key!r}")
    for part in (known[name] for name in key):
        if part.storage is None or part.nullable:
            raise TypeError(
                f"table {table!r}: key column {part.name!r} must be of one type out of "
                f"str, int, float and bytes, and never None (NULLs are never equal in SQL)"
            )
        if rules.get(part.name, Replace) is not Replace:
            raise ValueError(
                f"table {table!r}: key column {part.name!r} has a merge rule, "
                f"but rows with one key have it in common; drop the rule"
            )


def _is_name(name: str) -> bool:
    # A name with a lone surrogate cannot be encoded as UTF-8, as SQLite stores names.
    return bool(name) and not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in name)
