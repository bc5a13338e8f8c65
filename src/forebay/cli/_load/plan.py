"""Decides what table the rows go to, before a row is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import forebay
from forebay._table.sqlite_rules import affinity, fold_case
from forebay.cli._errors import LoadError
from forebay.cli._load.column_names import duplicate
from forebay.cli._load.column_types import JsonType, Kind
from forebay.cli._load.convert import TargetColumn


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the rows go.

    Attributes:
        table: the table, as forebay knows it.
        columns: its columns, as the inputs know them.
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
    """Decide what the columns hold and how the table is declared.

    Args:
        name: the table's name.
        found: the inputs' columns, and what each one seems to hold.
        key: the columns of the key; none for a table that rows are appended to.
        merge: what a later row does to an earlier one with its key.
        existing: the columns of the table and their declared types, where it exists.
        hint: what can be done about a value that is not of the kind its column seemed to hold.
        json: the types that the inputs' columns have in JSON, where that is what they are.

    Raises:
        LoadError: the key has a column that the inputs have not, or the columns make no table.
    """
    if not found:
        raise LoadError("the first rows are empty objects; expected a key for each column")
    missing = [column for column in key if column not in found]
    if missing:
        raise LoadError(
            f"--key names {missing[0]!r}, which is no column of the input; "
            f"its columns are {', '.join(found)}"
        )
    problem = duplicate(found)
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
            kind, reason = kind_there, f"as the table declares it {declared}"
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
"""What the JSON values of a key are expected to be, where the first rows have none."""


def _kind_there(declared: str, *, in_key: bool) -> Kind | None:
    """What a column of an existing table holds, or None where its declaration does not say."""
    its_affinity = affinity(declared)
    if its_affinity == "NUMERIC" and not in_key:
        return Kind.INTEGER  # the same, as far as what SQLite changes in it
    return Kind.__members__.get(its_affinity)
