"""A sample of rows and the existing table decide the declaration of the table."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

from forebay.cli._errors import LoadError
from forebay.cli._load.column_types import ColumnType, DetectedType, JsonType
from forebay.cli._load.database import ExistingColumn
from forebay.cli._load.detect import detect, json_types
from forebay.cli._load.options import TableOptions
from forebay.cli._load.plan import SAMPLE_ROWS, Plan, plan_table, sample_size
from forebay.cli._load.readers import Chunk
from forebay.cli._load.target_columns import COMPUTED

INTEGER, REAL, TEXT = ColumnType.INTEGER, ColumnType.REAL, ColumnType.TEXT


def texts(header: tuple[str, ...], *rows: list[str]) -> Chunk:
    return Chunk("it", header, converted=False, rows=list(rows))


def objects(*rows: dict[str, Any]) -> Chunk:
    return Chunk("it", None, converted=False, rows=list(rows))


def planned(
    found: dict[str, ColumnType],
    *,
    key: tuple[str, ...] = (),
    existing: dict[str, ExistingColumn] | None = None,
    json: dict[str, JsonType] | None = None,
) -> Plan:
    return plan_table(
        TableOptions(name="t", key=key),
        {name: DetectedType(column_type) for name, column_type in found.items()},
        existing=existing or {},
        json=json,
    )


def existing(**declared: str) -> dict[str, ExistingColumn]:
    return {name: ExistingColumn(name, type_) for name, type_ in declared.items()}


def types(
    chunks: list[Chunk], nulls: Collection[str] = (), *, detect_types: bool = True
) -> dict[str, ColumnType]:
    found = detect(chunks, nulls, types=detect_types)
    return {name: column.type for name, column in found.items()}


def test_the_type_of_a_column_of_texts_fits_all_cells() -> None:
    """Empty cells and texts for NULL do not count, in any chunk."""
    first = texts(("i", "r", "t", "e", "n"), ["1", "", "1", "", "NA"], ["", "2", "x", "", "3"])
    second = texts(("i", "r", "t", "e", "n"), ["-", "0.5", "2", "", ""])
    assert {"i": INTEGER, "r": REAL, "t": TEXT, "e": TEXT, "n": INTEGER} == types(
        [first, second], {"NA", "-"}
    )


def test_without_detection_every_column_of_texts_is_text() -> None:
    """--no-detect-types detects no numbers."""
    assert {"a": TEXT} == types([texts(("a",), ["1"])], detect_types=False)


def test_the_type_of_a_column_of_objects_fits_all_values() -> None:
    """The keys of all objects are columns. JSON's types count: a string of digits is a text."""
    chunk = objects(
        {"i": 1, "r": 1, "t": "1", "n": None},
        {"i": True, "r": 0.5, "m": 1, "j": [1], "big": 2**63, "na": "NA"},
        {"m": "x", "na": 5},
    )
    assert {
        "i": INTEGER,
        "r": REAL,
        "t": TEXT,
        "n": TEXT,
        "m": TEXT,
        "j": TEXT,
        "big": TEXT,
        "na": INTEGER,
    } == types([chunk], {"NA"}, detect_types=False)


def test_a_new_table_has_the_types_that_were_found() -> None:
    """Columns of the key are never NULL; the others may be."""
    plan = planned({"id": INTEGER, "x": REAL, "t": TEXT}, key=("id",))
    assert [("id", int, False), ("x", float, True), ("t", str, True)] == [
        (column.name, column.storage, column.nullable) for column in plan.table.columns
    ]
    assert ("id",) == plan.table.key
    assert "as in the first rows; --type id TEXT loads the column as text" == plan.columns[0].reason


def test_the_key_has_the_order_of_the_option() -> None:
    """The first column of the key leads the table's index."""
    assert ("b", "a") == planned({"a": TEXT, "b": TEXT}, key=("b", "a")).table.key


@pytest.mark.parametrize(
    ("found", "declared", "kind"),
    [
        (INTEGER, "TEXT", TEXT),
        (TEXT, "INTEGER", INTEGER),
        (TEXT, "REAL", REAL),
        (TEXT, "DECIMAL(5)", INTEGER),
        (INTEGER, "", INTEGER),
        (TEXT, "BLOB", TEXT),
    ],
)
def test_declared_types_come_first(found: ColumnType, declared: str, kind: ColumnType) -> None:
    """The sample decides only if the column has no declared type."""
    assert kind is planned({"a": found}, existing=existing(a=declared)).columns[0].type


def test_columns_have_the_names_of_the_existing_table() -> None:
    """Column names are case-insensitive in SQLite; the input keeps its own spelling."""
    plan = planned({"ID": TEXT}, key=("ID",), existing=existing(id="INTEGER", other=""))
    assert ("id", "ID") == (plan.table.columns[0].name, plan.columns[0].name)
    assert "since the table declares the column INTEGER" == plan.columns[0].reason


@pytest.mark.parametrize("name", ["two words", "select", 'a"b', "é", "1", "a,b", "t.c"])
def test_any_text_can_be_a_column_name(name: str) -> None:
    """Column names need not be Python identifiers."""
    assert name == planned({name: TEXT}, key=(name,)).table.columns[0].name


@pytest.mark.parametrize(
    ("found", "key", "problem"),
    [
        ({"a": TEXT, "b": TEXT}, ("z",), "--key names 'z', which is not a column of the input"),
        ({"a": TEXT}, ("a", "a"), "key must name one or more columns, each only once"),
        (
            {"a": TEXT, "A": TEXT},
            (),
            "column 'A' repeats column 'a'; name each column once; SQLite",
        ),
        ({}, (), "the first rows are empty objects"),
    ],
)
def test_an_impossible_table_is_an_error(
    found: dict[str, ColumnType], key: tuple[str, ...], problem: str
) -> None:
    """The error is raised before the database is opened."""
    with pytest.raises(LoadError) as caught:
        planned(found, key=key)
    assert problem in str(caught.value)


def test_the_json_types_of_a_key_are_detected() -> None:
    """With several types it is text, then number, then boolean. NULL does not count."""
    chunk = objects(
        {"t": "1", "n": 1, "b": True, "tn": 1, "nb": True, "null": None, "na": "NA", "j": [1]},
        {"t": "2", "n": 1.5, "b": False, "tn": "1", "nb": 1, "null": None, "na": 1},
    )
    text, number, boolean = JsonType.TEXT, JsonType.NUMBER, JsonType.BOOLEAN
    expected = {"t": text, "n": number, "b": boolean, "tn": text, "nb": number, "na": number}
    found = json_types([chunk, texts(("t",), ["x"])], {"NA"}, [*chunk.rows[0], "other"])
    assert {**expected, "j": JsonType.NESTED} == found


def test_a_key_has_one_json_type() -> None:
    """It is detected, or follows from the column's type. Other columns have no JSON type."""
    plan = planned(
        {"a": TEXT, "b": INTEGER, "c": TEXT, "d": TEXT},
        key=("a", "b", "c"),
        existing=existing(c="TEXT"),
        json={"a": JsonType.NUMBER},
    )
    expected = [JsonType.NUMBER, JsonType.NUMBER, JsonType.TEXT, None]
    assert expected == [column.json for column in plan.columns]
    assert [False, False, True, False] == [column.declared for column in plan.columns]


def test_an_object_sets_every_column_of_an_existing_table() -> None:
    """A column that objects need not name is set to its default, if a row may set it."""
    columns = [
        ExistingColumn("id", "INTEGER", may_be_set=False),
        ExistingColumn("v", "TEXT"),
        ExistingColumn("w", "INTEGER", default=7),
        ExistingColumn("made", "TEXT", default=COMPUTED),
        ExistingColumn("must", "TEXT", may_be_set=False),
    ]
    plan = planned(
        {"v": TEXT}, key=("ID",), existing={column.name: column for column in columns}, json={}
    )
    assert [("v", None), ("ID", None), ("w", 7)] == [(c.name, c.default) for c in plan.columns]
    assert [("v", False), ("ID", True), ("w", False)] == [(c.name, c.in_key) for c in plan.columns]
    assert ["v", "id", "w"] == [column.name for column in plan.table.columns]


def test_cells_set_the_columns_of_the_header_only() -> None:
    """The columns of the table that are not in a header keep their values."""
    plan = planned({"v": TEXT}, existing=existing(v="TEXT", w="TEXT"))
    assert ["v"] == [column.name for column in plan.table.columns]


@pytest.mark.parametrize(
    ("header", "declared", "key", "detect_types", "expected"),
    [
        (("a",), {}, (), True, SAMPLE_ROWS),
        (None, {}, (), True, SAMPLE_ROWS),
        (("a",), {}, (), False, 1),
        (None, {}, (), False, SAMPLE_ROWS),
        (("a",), {"A": "TEXT", "b": ""}, (), True, 1),
        (None, {"A": "TEXT", "b": ""}, (), True, SAMPLE_ROWS),
        (("a", "B"), {"A": "TEXT", "b": ""}, (), True, SAMPLE_ROWS),
        (None, {"A": "TEXT", "b": "REAL"}, (), True, 1),
        (("a",), {"A": "NUMERIC"}, (), True, 1),
        (("a",), {"A": "NUMERIC"}, ("a",), True, SAMPLE_ROWS),
    ],
)
def test_rows_are_sampled_only_if_a_type_must_be_detected(
    header: tuple[str, ...] | None,
    declared: dict[str, str],
    key: tuple[str, ...],
    detect_types: bool,
    expected: int,
) -> None:
    """Otherwise the first row is enough, and a pipe need not fill the sample."""
    assert expected == sample_size(
        header, existing(**declared), key=key, types=(), detect_types=detect_types
    )
