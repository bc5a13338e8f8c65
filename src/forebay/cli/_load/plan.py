"""Decide the table's declaration before a row is written."""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Annotated, Any

import forebay
from forebay._table.columns import StoredAs
from forebay._table.sqlite_rules import affinity, fold_case
from forebay.cli._errors import LoadError
from forebay.cli._load.column_names import describe_duplicate
from forebay.cli._load.column_types import (
    JSON_TYPES,
    ColumnType,
    DetectedType,
    JsonType,
    equal_number,
)
from forebay.cli._load.database import ExistingColumn
from forebay.cli._load.options import TableOptions
from forebay.cli._load.target_columns import COMPUTED, TargetColumn

SAMPLE_ROWS = 10_000
"""The number of rows by which the types of the columns are detected."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The table for the rows.

    Attributes:
        table: its declaration.
        columns: its columns, with their names in the inputs.
    """

    table: forebay.Table[tuple[Any, ...]]
    columns: Sequence[TargetColumn]


def plan_table(
    options: TableOptions,
    found: Mapping[str, DetectedType],
    *,
    existing: Mapping[str, ExistingColumn],
    keep_misfits: bool = False,
    json: Mapping[str, JsonType] | None = None,
) -> Plan:
    """Decide the types of the columns and the declaration of the table.

    Args:
        options: what the table is like.
        found: the inputs' columns and their detected types.
        existing: the columns of the table by name, if it exists.
        keep_misfits: whether values of another type than their column's are stored as they are.
        json: the JSON types of the key's columns; None if the inputs are not JSON. A JSON object is
            a whole row: a column of the table that it does not name is set to its default.

    Raises:
        LoadError: an option names a column that is not in the inputs, or the columns cannot be
            those of a table.
    """
    if not found:
        raise LoadError(
            "the first rows are empty objects; expected objects with the columns' names and values"
        )
    problem = describe_duplicate(found)
    if problem is not None:
        raise LoadError(
            f"{problem}; SQLite ignores case; rename or remove one in the inputs, as with jq"
        )
    detected = dict(found)
    if json is not None:
        detected.update(_unnamed_columns(found, existing, options.key))
    _check_number(detected)
    _check_names(options, detected)
    by_name = _by_folded_name(existing)
    targets = [
        _target(
            name,
            detected_type,
            by_name.get(fold_case(name)),
            options,
            keep_misfits=keep_misfits,
            json=json,
        )
        for name, detected_type in detected.items()
    ]
    # The names of columns are compared as SQLite compares them, and written as in the table.
    names = {
        fold_case(target.name): by_name.get(fold_case(target.name), target).name
        for target in targets
    }
    try:
        table = forebay.Table.from_columns(
            {names[fold_case(t.name)]: _annotation(t, options.merge) for t in targets},
            name=options.name,
            key=[names[fold_case(name)] for name in options.key] or None,
            merge=options.merge,
            indexes=[[names[fold_case(name)] for name in index] for index in options.indexes],
            defaults={
                names[fold_case(t.name)]: t.default
                for t in targets
                if fold_case(t.name) not in by_name and t.default is not None
            },
        )
    except (TypeError, ValueError) as error:
        raise LoadError(str(error)) from error
    return Plan(table, targets)


def _check_number(columns: Collection[str]) -> None:
    """Check that a table of SQLite can have so many columns.

    Raises:
        LoadError: it cannot.
    """
    with closing(sqlite3.connect(":memory:")) as raw:
        most = raw.getlimit(sqlite3.SQLITE_LIMIT_COLUMN)
    if len(columns) > most:
        raise LoadError(
            f"the input has {len(columns):,} columns, and a table of SQLite has {most:,} at most; "
            f"load fewer of them, such as: cut -d, -f1-{most} FILE | forebay load - ..."
        )


def _check_names(options: TableOptions, detected: Mapping[str, DetectedType]) -> None:
    """Check that the columns that options name are in the inputs.

    Raises:
        LoadError: one is not.
    """
    known = set(map(fold_case, detected))
    for option, names in options.columns_by_option().items():
        exact = option == "--key"  # which names a column of the rows
        for name in names:
            if name not in detected if exact else fold_case(name) not in known:
                raise LoadError(
                    f"{option} names {name!r}, which is not a column of the input; "
                    f"the columns are {', '.join(detected)}"
                )


def _unnamed_columns(
    found: Mapping[str, DetectedType], existing: Mapping[str, ExistingColumn], key: Sequence[str]
) -> dict[str, DetectedType]:
    """Return the columns that the first objects do not name and that a row sets nevertheless."""
    named = set(map(fold_case, found))
    in_key = {fold_case(name): name for name in key}
    return {
        in_key.get(fold_case(column.name), column.name): DetectedType(ColumnType.TEXT)
        for column in existing.values()
        if fold_case(column.name) not in named
        and (
            fold_case(column.name) in in_key
            or (column.may_be_set and column.default is not COMPUTED)
        )
    }


def _target(
    name: str,
    detected: DetectedType,
    there: ExistingColumn | None,
    options: TableOptions,
    *,
    keep_misfits: bool,
    json: Mapping[str, JsonType] | None,
) -> TargetColumn:
    """Return the column of a name.

    Raises:
        LoadError: the table declares another type than --type does, or the default does not fit.
    """
    named_type = _of_column(options.types, name)
    if there is not None and named_type and affinity(there.declared) != affinity(named_type):
        raise LoadError(
            f"--type names the type {named_type} for column {name!r}, but the table exists and "
            f"declares it {there.declared or 'without a type'}; leave out --type, or load into a "
            f"new table"
        )
    in_key = name in options.key
    declaration = there.declared if there is not None else named_type or ""
    declared = declared_type(declaration, in_key=in_key)
    if declared is None:
        column_type = detected.type
        advice = f"--type {shlex.quote(name)} TEXT loads the column as text"
        reason = f"as in the first rows; {advice}"
    elif there is not None:
        column_type, reason = declared, f"since the table declares the column {declaration}"
    else:
        column_type, reason = declared, f"since --type declares the column {declaration}"
    # SQLite's type NUMERIC is also that of dates; a column without a type holds any value.
    holds_any = there is not None and (declared is None or affinity(declaration) == "NUMERIC")
    return TargetColumn(
        name=name,
        type=column_type,
        reason=reason,
        in_key=in_key,
        holds_others=not in_key and (keep_misfits or holds_any),
        not_null=fold_case(name) in map(fold_case, options.not_null),
        declared=declared is not None,
        spellings=detected.spellings,
        json=json.get(name, JSON_TYPES[column_type]) if in_key and json is not None else None,
        default=_new_default(name, column_type, options) if there is None else there.default,
    )


def _new_default(name: str, column_type: ColumnType, options: TableOptions) -> object:
    """Return the default of a new column."""
    text = _of_column(options.defaults, name)
    if text is None or column_type is ColumnType.TEXT:
        return text
    number = equal_number(text)
    if number is None or (column_type is ColumnType.INTEGER and not isinstance(number, int)):
        raise LoadError(
            f"--default is {text!r} for column {name!r}, which is {column_type.name}; expected a "
            f"value of this type, or another --type"
        )
    return column_type.value(number)


def _of_column(texts: Mapping[str, str], name: str) -> str | None:
    """Return what an option says about a column, or None."""
    return next((text for key, text in texts.items() if fold_case(key) == fold_case(name)), None)


def _annotation(target: TargetColumn, merge: forebay.Merge) -> Any:
    """Return the annotation of a column of the table."""
    own: Any = target.type.value
    if target.in_key:
        return own
    nullable = own if target.not_null else own | None
    others = target.holds_others or not isinstance(target.default, own | None)
    if not others or merge not in {forebay.Replace, forebay.Keep}:
        return nullable
    # The converter refuses the values that SQLite would change.
    return Annotated[nullable | int | float | str | bytes, StoredAs(own)]


def sample_size(
    header: Sequence[str] | None,
    existing: Mapping[str, ExistingColumn],
    *,
    key: Sequence[str],
    types: Collection[str],
    detect_types: bool,
) -> int:
    """Return the number of rows by which the types of the columns are detected.

    It is 1 if no type needs to be detected, so that rows are loaded as soon as they arrive.

    Args:
        header: the columns of the first input; None if its rows are JSON objects.
        existing: the columns of the table by name, if it exists.
        key: the columns of the key.
        types: the columns whose types the options name.
        detect_types: whether to detect numbers in texts.
    """
    if header is not None and not detect_types:
        return 1
    by_name = _by_folded_name(existing)
    keys, named = set(map(fold_case, key)), set(map(fold_case, types))

    def is_known(name: str) -> bool:
        column = by_name.get(name)
        if column is None:
            return name in named
        return declared_type(column.declared, in_key=name in keys) is not None

    names = list(map(fold_case, existing if header is None else header))
    return 1 if names and all(map(is_known, names)) else SAMPLE_ROWS


def _by_folded_name(existing: Mapping[str, ExistingColumn]) -> dict[str, ExistingColumn]:
    return {fold_case(name): column for name, column in existing.items()}


def declared_type(declared: str, *, in_key: bool) -> ColumnType | None:
    """Return the type of a column of an existing table, or None if it declares none.

    Args:
        declared: the declared type of the column.
        in_key: whether the column belongs to the key.
    """
    its_affinity = affinity(declared)
    if its_affinity == "NUMERIC" and not in_key:
        return ColumnType.INTEGER  # SQLite changes the same values in both
    return ColumnType.__members__.get(its_affinity)
