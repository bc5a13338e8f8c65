"""Decide the table's declaration before a row is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import forebay
from forebay._table.sqlite_rules import affinity, fold_case
from forebay.cli._errors import LoadError
from forebay.cli._load.column_names import describe_duplicate
from forebay.cli._load.column_types import JsonType, Kind
from forebay.cli._load.convert import TargetColumn


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
    found: Mapping[str, Kind],
    *,
    key: Sequence[str],
    merge: forebay.Merge,
    existing: Mapping[str, str],
    hint: str,
    json: Mapping[str, JsonType] | None = None,
) -> Plan:
    """Decide the types of the columns and the declaration of the table.

    Args:
        name: the table's name.
        found: the inputs' columns and their detected types.
        key: the columns of the key; empty for a table to which rows are appended.
        merge: what a later row does to an earlier row with the same key.
        existing: the columns of the table and their declared types, if it exists.
        hint: advice for a value that does not have the detected type of its column.
        json: the JSON types of the inputs' columns, if the inputs are JSON.

    Raises:
        LoadError: the key names a column that is not in the inputs, or the columns cannot be
            those of a table.
    """
    if not found:
        raise LoadError("the first rows are empty objects; expected a key for each column")
    missing = [column for column in key if column not in found]
    if missing:
        raise LoadError(
            f"--key names {missing[0]!r}, which is not a column of the input; "
            f"the columns are {', '.join(found)}"
        )
    problem = describe_duplicate(found)
    if problem is not None:
        raise LoadError(problem)
    there = {fold_case(column): (column, declared) for column, declared in existing.items()}
    columns: list[TargetColumn] = []
    types: dict[str, Any] = {}
    spelled: dict[str, str] = {}
    for column, detected in found.items():
        in_key = column in key
        spelling, declared = there.get(fold_case(column), (column, ""))
        kind_there = _kind_there(declared, in_key=in_key)
        if kind_there is None:
            kind, reason = detected, f"as in the first rows{hint}"
        else:
            kind, reason = kind_there, f"since the table declares the column {declared}"
        in_json = json.get(column, _JSON[kind]) if in_key and json is not None else None
        columns.append(
            TargetColumn(
                column, kind, in_key, reason, declared=kind_there is not None, json=in_json
            )
        )
        types[spelling] = kind.value if in_key else kind.value | None
        spelled[column] = spelling
    try:
        table = forebay.Table.from_columns(
            types, name=name, key=[spelled[column] for column in key] or None, merge=merge
        )
    except (TypeError, ValueError) as error:
        raise LoadError(str(error)) from error
    return Plan(table, columns)


_JSON = {
    Kind.INTEGER: JsonType.NUMBER,
    Kind.REAL: JsonType.NUMBER,
    Kind.TEXT: JsonType.TEXT,
}
"""The JSON type of a column of the key that has no value in the first rows."""


def _kind_there(declared: str, *, in_key: bool) -> Kind | None:
    """Return the type of a column of an existing table, or None if it declares none."""
    its_affinity = affinity(declared)
    if its_affinity == "NUMERIC" and not in_key:
        return Kind.INTEGER  # SQLite changes the same values in both
    return Kind.__members__.get(its_affinity)
