"""The rows that a converter makes of cells are valid for the table, so that nothing checks them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import forebay
from forebay._table.validation import RowValidator
from forebay.cli._errors import LoadError
from forebay.cli._load.column_types import ColumnType, JsonType
from forebay.cli._load.convert import Converter
from forebay.cli._load.database import ExistingColumn
from forebay.cli._load.detect import detect
from forebay.cli._load.options import TableOptions
from forebay.cli._load.plan import plan_table
from forebay.cli._load.readers import Chunk
from forebay.cli._load.target_columns import COMPUTED, MisfitError, TargetColumn

CELLS = st.one_of(
    st.integers(-(2**65), 2**65).map(str),
    st.floats().map(repr),
    st.decimals().map(str),
    st.text(alphabet="0123456789.eE+- naif\u0664", max_size=6),
    st.sampled_from(["", "NA", "-0", "-0.0", "0.0", "1e999", "9223372036854775808", "é", "1_000"]),
)


@given(
    sample=st.lists(CELLS, max_size=4),
    cells=st.lists(CELLS, min_size=1, max_size=8),
    declared=st.sampled_from([None, "INTEGER", "REAL", "TEXT"]),
    existing=st.sampled_from([None, "", "INTEGER", "REAL", "TEXT", "NUMERIC", "DATE", "BLOB"]),
    key=st.booleans(),
    keep=st.booleans(),
    not_null=st.booleans(),
    merge=st.sampled_from([forebay.Replace, forebay.Keep]),
)
def test_converted_rows_are_valid_as_they_are(
    sample: list[str],
    cells: list[str],
    declared: str | None,
    existing: str | None,
    key: bool,
    keep: bool,
    not_null: bool,
    merge: forebay.Merge,
) -> None:
    """In every column and for every cell, converted alone or together with others."""
    rows = [[text] for text in sample]
    chunk = Chunk("it", ("c",), converted=False, rows=rows)
    options = TableOptions(
        name="t",
        key=("c",) if key else (),
        merge=merge,
        types={} if declared is None else {"c": declared},
        not_null=("c",) if not_null else (),
    )
    columns = {} if existing is None else {"c": ExistingColumn("c", existing)}
    try:
        found = detect([chunk], {"NA"}, types=True)
        plan = plan_table(options, found, existing=columns, keep_misfits=keep)
    except LoadError:
        assume(False)
    validator = RowValidator(plan.table)
    for together in (False, True):
        bound = Converter(plan.columns, {"NA"}).bind("it", ["c"])
        made: list[tuple[object, ...]] = []
        if together:
            made += bound.convert_all([[text] for text in cells]) or []
        else:
            for text in cells:
                with suppress(MisfitError):
                    made.append(bound.convert([text]))
        if made:
            valid = validator.validate_rows(made)
            assert [[(v, type(v)) for v in row] for row in valid] == [
                [(v, type(v)) for v in row] for row in made
            ]
            assert [str(value) for row in valid for value in row] == [
                str(value) for row in made for value in row
            ]


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "x", "NA", "1", "1.5"]),
    st.just([1]),
    st.just({"a": 1}),
)


@given(
    rows=st.lists(
        st.dictionaries(st.sampled_from(["c", "d", "unknown"]), VALUES), min_size=1, max_size=5
    ),
    kind=st.sampled_from(ColumnType),
    json=st.sampled_from([None, *JsonType]),
    key=st.booleans(),
    not_null=st.booleans(),
    others=st.booleans(),
    default=st.sampled_from([None, 5, "five", COMPUTED]),
)
def test_objects_are_converted_together_as_alone(
    rows: list[dict[str, object]],
    kind: ColumnType,
    json: JsonType | None,
    key: bool,
    not_null: bool,
    others: bool,
    default: object,
) -> None:
    """The same values of the same types, or a misfit."""
    column = TargetColumn(
        name="c",
        type=kind,
        reason="as stated",
        in_key=key,
        not_null=not_null,
        holds_others=others,
        json=json if key else None,
        default=default,
    )
    other = TargetColumn(name="d", type=ColumnType.TEXT, reason="as stated")
    bound = Converter([column, other], {"NA"}).bind("it", None)
    try:
        alone = list(map(bound.convert, rows))
    except MisfitError:
        alone = None
    together = bound.convert_all(rows)
    assert repr(alone) == repr(together)


def test_a_value_that_no_converter_makes_is_refused() -> None:
    """So the test above can fail."""
    table = forebay.Table.from_columns({"c": int}, name="t")
    with pytest.raises(TypeError):
        RowValidator(table).validate_rows([("x",)])
