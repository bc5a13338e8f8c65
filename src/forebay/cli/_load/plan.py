"""Decide the table's declaration before a row is written."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import forebay
from forebay._table.columns import StoredAs
from forebay._table.sqlite_rules import affinity, fold_case
from forebay.cli._errors import LoadError
from forebay.cli._load.column_names import describe_duplicate
from forebay.cli._load.column_types import ColumnType, DetectedType, JsonType
from forebay.cli._load.convert import COMPUTED, TargetColumn
from forebay.cli._load.database import ExistingColumn

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
    name: str,
    found: Mapping[str, DetectedType],
    *,
    key: Sequence[str],
    merge: forebay.Merge,
    existing: Mapping[str, ExistingColumn],
    types: Mapping[str, str] | None = None,
    keep_misfits: bool = False,
    json: Mapping[str, JsonType] | None = None,
) -> Plan:
    """Decide the types of the columns and the declaration of the table.

    Args:
        name: the table's name.
        found: the inputs' columns and their detected types.
        key: the columns of the key; empty for an append-only table.
        merge: what a later row does to an earlier row with the same key.
        existing: the columns of the table by name, if it exists.
        types: the declared types of columns, by name, that come before detected types.
        keep_misfits: whether values of another type than their column's are stored as they are.
        json: the JSON types of the inputs' columns; None if the inputs are not JSON. A JSON object
            is a whole row: a column of the table that it does not name is set to its default.

    Raises:
        LoadError: the key names a column that is not in the inputs, or the columns cannot be
            those of a table.
    """
    if not found:
        raise LoadError(
            "the first rows are empty objects; expected objects with the columns' names and values"
        )
    problem = describe_duplicate(found)
    if problem is not None:
        raise LoadError(problem)
    detected = dict(found)
    if json is not None:
        detected.update(_unnamed_columns(found, existing, key))
    missing = [column for column in key if column not in detected]
    if missing:
        raise LoadError(
            f"--key names {missing[0]!r}, which is not a column of the input; "
            f"the columns are {', '.join(detected)}"
        )
    by_name = _by_folded_name(existing)
    named_types = _named_types(types or {}, detected, by_name)
    columns: list[TargetColumn] = []
    annotations: dict[str, Any] = {}
    table_names: dict[str, str] = {}
    for column, detected_type in detected.items():
        exists = fold_case(column) in by_name
        there = by_name[fold_case(column)] if exists else ExistingColumn(column, "")
        target = _target(
            column,
            detected_type,
            there,
            exists=exists,
            named_type=named_types.get(fold_case(column)),
            in_key=column in key,
            keep_misfits=keep_misfits,
            json=json,
        )
        columns.append(target)
        annotations[there.name] = _annotation(target, merge)
        table_names[column] = there.name
    try:
        table = forebay.Table.from_columns(
            annotations, name=name, key=[table_names[column] for column in key] or None, merge=merge
        )
    except (TypeError, ValueError) as error:
        raise LoadError(str(error)) from error
    return Plan(table, columns)


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


def _named_types(
    types: Mapping[str, str],
    detected: Mapping[str, DetectedType],
    existing: Mapping[str, ExistingColumn],
) -> dict[str, str]:
    """Return the types that --type names, by folded name, if the table can have them."""
    known = set(map(fold_case, detected))
    for name, declared in types.items():
        if fold_case(name) not in known:
            raise LoadError(
                f"--type names {name!r}, which is not a column of the input; the columns are "
                f"{', '.join(detected)}"
            )
        there = existing.get(fold_case(name))
        if there is not None and affinity(there.declared) != affinity(declared):
            raise LoadError(
                f"--type names the type {declared} for column {name!r}, but the table exists and "
                f"declares it {there.declared or 'without a type'}; leave out --type, or load "
                f"into a new table"
            )
    return {fold_case(name): declared for name, declared in types.items()}


def _target(
    name: str,
    detected: DetectedType,
    there: ExistingColumn,
    *,
    exists: bool,
    named_type: str | None,
    in_key: bool,
    keep_misfits: bool,
    json: Mapping[str, JsonType] | None,
) -> TargetColumn:
    declaration = there.declared or named_type or ""
    declared = declared_type(declaration, in_key=in_key)
    if declared is None:
        column_type = detected.type
        advice = f"--type {shlex.quote(name)} TEXT loads the column as text"
        reason = f"as in the first rows; {advice}"
    elif there.declared:
        column_type, reason = declared, f"since the table declares the column {there.declared}"
    else:
        column_type, reason = declared, f"since --type declares the column {named_type}"
    in_json = json.get(name, _JSON[column_type]) if in_key and json is not None else None
    # SQLite's type NUMERIC is also that of dates; a column without a type holds any value.
    holds_any = exists if declared is None else affinity(declaration) == "NUMERIC"
    return TargetColumn(
        name=name,
        type=column_type,
        reason=reason,
        in_key=in_key,
        holds_others=not in_key and (keep_misfits or holds_any),
        declared=declared is not None,
        spellings=detected.spellings,
        json=in_json,
        default=there.default,
    )


def _annotation(target: TargetColumn, merge: forebay.Merge) -> Any:
    """Return the annotation of a column of the table."""
    if target.in_key:
        return target.type.value
    if merge not in {forebay.Replace, forebay.Keep}:
        return target.type.value | None
    if target.holds_others or target.default is not None:
        # The converter refuses the values that SQLite would change.
        return Annotated[int | float | str | bytes | None, StoredAs(target.type.value)]
    return target.type.value | None


_JSON = {
    ColumnType.INTEGER: JsonType.NUMBER,
    ColumnType.REAL: JsonType.NUMBER,
    ColumnType.TEXT: JsonType.TEXT,
}
"""The JSON type of a column of the key that has no value in the first rows."""


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
