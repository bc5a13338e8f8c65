"""Typed columns: what is stored for a value, what comes back, and what is refused."""

from __future__ import annotations

import dataclasses
import enum
import math
import re
import sqlite3
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    TypedDict,
    TypeVar,
)
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import TypeAliasType

import forebay
from forebay import Codec, Json, Keep, Max, Min, Sum, Table
from forebay._table.validation import RowValidator


class State(enum.Enum):
    NEW = "new"
    DONE = "done"


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 10


class Number(enum.Enum):
    ONE = 1


class Mixed(enum.Enum):
    A = 1
    B = "b"


class Access(enum.IntFlag):
    READ = 1
    WRITE = 2


class Huge(enum.Enum):
    N = 2**64


@dataclasses.dataclass
class Point:
    x: int
    y: float | None = None


@dataclasses.dataclass
class Shape:
    name: str
    points: list[Point]
    by_name: dict[str, Point]
    pair: tuple[int, str]


class Sample(msgspec.Struct, rename="camel"):
    taken_at: datetime
    tags: set[str]


class Options(TypedDict):
    depth: int
    name: str
    start: NotRequired[Point]


class Celsius(NamedTuple):
    degrees: float


CELSIUS: Codec[Celsius] = Codec(
    encode=lambda value: value.degrees,
    decode=Celsius,
    storage=float,
    keeps_equality=True,
    keeps_order=True,
)
JobId = NewType("JobId", UUID)
T = TypeVar("T")
Alias = TypeAliasType("Alias", UUID)
Maybe = TypeAliasType("Maybe", Annotated[list[T], Json], type_params=(T,))

PLUS_2 = timezone(timedelta(hours=2))
AT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
ID = UUID("0123456789abcdef0123456789abcdef")
SHAPE = Shape("a", [Point(1, 2.5), Point(2)], {"b": Point(3, 1.0)}, (1, "c"))

ALL_TYPES: list[tuple[Any, Any, Any]] = [
    (datetime, AT, "2026-01-02 03:04:05.000678+00:00"),
    (datetime, datetime(26, 1, 2, 1, tzinfo=PLUS_2), "0026-01-01 23:00:00.000000+00:00"),
    (date, date(2026, 1, 2), "2026-01-02"),
    (time, time(3, 4), "03:04:00"),
    (time, time(3, 4, 5, 6), "03:04:05.000006"),
    (UUID, ID, "01234567-89ab-cdef-0123-456789abcdef"),
    (Decimal, Decimal("1.50"), "1.50"),
    (Decimal, Decimal("-1E+30"), "-1E+30"),
    (Decimal, Decimal("Infinity"), "Infinity"),
    (State, State.DONE, "done"),
    (Colour, Colour.RED, "red"),
    (Level, Level.HIGH, 10),
    (Number, Number.ONE, 1),
    (Mixed, Mixed.A, "A"),
    (Mixed, Mixed.B, "B"),
    (Access, Access.READ | Access.WRITE, 3),
    (Huge, Huge.N, "N"),
    (Annotated[dict[str, Any], Json], {"ü": [1, None, 1.5], "a": {}}, '{"ü":[1,null,1.5],"a":{}}'),
    (Annotated[list[int], Json], [2, 1], "[2,1]"),
    (Annotated[tuple[int, ...], Json], (2, 1), "[2,1]"),
    (Annotated[Any, Json], "a\0", '"a\\u0000"'),
    (
        Annotated[Shape, Json],
        SHAPE,
        (
            '{"name":"a","points":[{"x":1,"y":2.5},{"x":2,"y":null}],'
            '"by_name":{"b":{"x":3,"y":1.0}},"pair":[1,"c"]}'
        ),
    ),
    (
        Annotated[Sample, Json],
        Sample(AT, {"a"}),
        '{"takenAt":"2026-01-02T03:04:05.000678Z","tags":["a"]}',
    ),
    (Annotated[list[Sample], Json], [], "[]"),
    (Annotated[datetime, forebay.UnixSeconds], AT.replace(microsecond=0), 1767323045),
    (Annotated[datetime, forebay.UnixSeconds], datetime(1969, 12, 31, tzinfo=UTC), -86400),
    (Annotated[datetime, forebay.UnixMicroseconds], AT, 1767323045000678),
    (Annotated[datetime, forebay.Iso8601], AT, "2026-01-02T03:04:05.000678Z"),
    (Annotated[UUID, forebay.UuidBytes], ID, ID.bytes),
    (Annotated[Celsius, CELSIUS], Celsius(-1.5), -1.5),
    (JobId, ID, str(ID)),
    (Alias, ID, str(ID)),
    (Maybe[int], [1], "[1]"),
    (Final[date], date(2026, 1, 2), "2026-01-02"),
    (Literal[State.NEW, State.DONE], State.NEW, "new"),
    (Annotated[JobId, "a comment"], ID, str(ID)),
]
"""An annotation, a value, and what is stored for it."""


def checks(validator: RowValidator[Any]) -> list[Callable[[Any], Any]]:
    """Return the ways in which a value of the only column may be checked."""
    return [
        lambda value: validator.validate_row((value,))[0],
        lambda value: validator.validate_rows([(value,), (value,)])[1][0],
        lambda value: validator.validate_update({"c": value})["c"],
    ]


@pytest.mark.parametrize(("annotation", "value", "stored"), ALL_TYPES)
@pytest.mark.parametrize("nullable", [False, True])
def test_a_value_is_encoded_and_decoded(
    annotation: Any, value: Any, stored: Any, nullable: bool
) -> None:
    """The stored value has the storage type; it comes back equal, of the same type."""
    if nullable and annotation == Final[date]:
        annotation = date
    table = Table.from_columns({"c": annotation | None if nullable else annotation}, name="t")
    [column] = table.columns
    assert column.type.codec is not None
    for check in checks(RowValidator(table)):
        actual = check(value)
        assert (type(stored), stored) == (type(actual), actual)
        back = column.type.codec.decode(actual)
        assert (type(value), value) == (type(back), back)
    if nullable:
        rows = RowValidator(table).validate_rows([(None,), (value,), (None,)])
        assert [None, stored, None] == [row[0] for row in rows]
        assert (None,) == RowValidator(table).validate_row((None,))


class Moment(datetime):
    """A datetime with a part that its base class does not have."""

    nanosecond = 0

    def __eq__(self, other: object) -> bool:
        return not self.nanosecond and super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = datetime.__hash__


class Nanosecond(Moment):
    nanosecond = 1


@pytest.mark.parametrize(
    ("annotation", "value", "error", "message"),
    [
        (datetime, AT.replace(tzinfo=None), ValueError, "the datetime has no time zone"),
        (datetime, datetime.max.replace(tzinfo=timezone(-timedelta(hours=1))), ValueError, "range"),
        (datetime, "2026-01-02", TypeError, "expected datetime, got '2026-01-02' of type str"),
        (datetime, date(2026, 1, 2), TypeError, "expected datetime, got "),
        (datetime, Nanosecond(2026, 1, 2, tzinfo=UTC), ValueError, "it is not equal to"),
        (date, AT, TypeError, "pass value.date()"),
        (time, time(1, tzinfo=UTC), ValueError, "the time has a time zone"),
        (UUID, str(ID), TypeError, "expected UUID, got"),
        (UUID | None, 1, TypeError, "expected UUID or None, got 1 of type int"),
        (Decimal, 1, TypeError, "expected Decimal, got 1 of type int"),
        (Decimal, Decimal("nan"), ValueError, "NaN is not stored"),
        (State, "new", TypeError, "expected State, got 'new' of type str"),
        (Colour, "red", TypeError, "expected Colour, got"),
        (Level, 1, TypeError, "expected Level, got"),
        (Annotated[dict[str, Any], Json], [], TypeError, "expected dict, got []"),
        (Annotated[dict[str, Any], Json], {1: 2}, TypeError, "JSON has only str keys, not 1"),
        (Annotated[dict[str, Any], Json], {"a": {1}}, TypeError, "JSON has no value of type set"),
        (Annotated[dict[str, Any], Json], {"a": math.nan}, ValueError, "not JSON compliant"),
        (Annotated[datetime, forebay.UnixSeconds], AT, ValueError, "a fraction of a second"),
        (Annotated[Celsius, CELSIUS], Celsius(math.nan), ValueError, "NaN cannot be stored"),
        (Annotated[Celsius, CELSIUS], Celsius("a"), ValueError, "the codec must return float"),  # type: ignore[arg-type]
        (Any, AT, TypeError, "cannot be stored; expected str"),
        (datetime, None, TypeError, "expected datetime, got None"),
    ],
)
def test_a_value_that_cannot_be_stored_is_refused(
    annotation: Any, value: Any, error: type[Exception], message: str
) -> None:
    """The error names the table, the column and the value."""
    for check in checks(RowValidator(Table.from_columns({"c": annotation}, name="t"))):
        with pytest.raises(error, match=f"^table 't', column 'c': .*{re.escape(message)}"):
            check(value)


def test_values_of_subclasses_are_stored_as_their_base_class() -> None:
    """A subclass of datetime is valid if the base class has all its digits."""
    table = Table.from_columns({"c": datetime}, name="t")
    moment = Moment(2026, 1, 2, tzinfo=UTC)
    for check in checks(RowValidator(table)):
        assert "2026-01-02 00:00:00.000000+00:00" == check(moment)


@pytest.mark.parametrize(("annotation", "value", "stored"), ALL_TYPES)
def test_keys_and_rules_work_or_are_refused_at_the_declaration(
    annotation: Any, value: Any, stored: Any
) -> None:
    """A key needs that equality is kept, `Min` and `Max` need that order is, `Sum` a number."""
    [column] = Table.from_columns({"c": annotation}, name="t").columns
    codec = column.type.codec
    assert codec is not None
    if codec.keeps_equality:
        keyed = RowValidator(Table.from_columns({"c": annotation}, name="t", key="c"))
        assert stored == keyed.validate_key(value)
        by = Table.from_columns({"c": annotation}, name="t", delete_by="c")
        assert stored == RowValidator(by).validate_delete_by(value)
    else:
        for arguments in ({"key": "c"}, {"delete_by": "c"}):
            with pytest.raises(TypeError, match=r"may be stored differently|not allow None"):
                Table.from_columns({"c": annotation}, name="t", **arguments)  # type: ignore[arg-type]
    columns = {"k": int, "c": annotation}
    for rule in (Min, Max):
        if codec.keeps_order:
            assert codec.keeps_equality
            Table.from_columns(columns, name="t", key="k", merge={"c": rule})
        else:
            with pytest.raises(TypeError, match="in another order"):
                Table.from_columns(columns, name="t", key="k", merge={"c": rule})
    with pytest.raises(TypeError, match="column 'c': Sum needs int or float"):
        Table.from_columns(columns, name="t", key="k", merge={"c": Sum})
    Table.from_columns(columns, name="t", key="k", merge={"c": Keep})


MOMENTS = st.datetimes(
    min_value=datetime(2, 1, 1),  # noqa: DTZ001  # Hypothesis adds the time zone
    max_value=datetime(9998, 1, 1),  # noqa: DTZ001  # Hypothesis adds the time zone
    timezones=st.sampled_from([UTC, PLUS_2, timezone(-timedelta(hours=11, minutes=30))]),
)


@given(
    st.lists(MOMENTS, min_size=2, max_size=2)
    | st.lists(st.dates(), min_size=2, max_size=2)
    # One in two times is a whole second, whose text is shorter.
    | st.lists(
        st.times() | st.times().map(lambda t: t.replace(microsecond=0)), min_size=2, max_size=2
    )
    | st.lists(st.uuids(), min_size=2, max_size=2)
)
def test_the_stored_order_is_the_order_of_the_values(pair: list[Any]) -> None:
    """SQLite compares what is stored exactly as Python compares the values."""
    kind = type(pair[0])
    annotations: list[Any] = [kind]
    if kind is datetime:
        annotations += [
            Annotated[kind, codec] for codec in (forebay.Iso8601, forebay.UnixMicroseconds)
        ]
    if kind is UUID:
        annotations.append(Annotated[UUID, forebay.UuidBytes])
    for annotation in annotations:
        validator = RowValidator(Table.from_columns({"c": annotation}, name="t"))
        stored = [row[0] for row in validator.validate_rows([(value,) for value in pair])]
        raw = sqlite3.connect(":memory:")
        less, equal = raw.execute("SELECT ?1 < ?2, ?1 = ?2", stored).fetchone()
        raw.close()
        assert [pair[0] < pair[1], pair[0] == pair[1]] == [bool(less), bool(equal)]


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (datetime | str, "has values of one type, not datetime or str"),
        (UUID | date, "has values of one type, not UUID or date"),
        (Annotated[str, forebay.UnixSeconds], "stores values of type datetime, not str"),
        (Annotated[Any, forebay.UuidBytes], "stores values of type UUID, not object"),
        (dict[str, int], "Annotated[dict, forebay.Json]"),
        (complex, "declare str, int, float, bytes, bool, datetime"),
        (Annotated[TypeVar("X"), Json], "expected a class"),
    ],
)
def test_an_annotation_that_no_codec_fits_is_refused(annotation: Any, message: str) -> None:
    """The error names the table and the column."""
    with pytest.raises(TypeError, match=f"^table 't', column 'c': .*{re.escape(message)}"):
        Table.from_columns({"c": annotation}, name="t")


def test_a_codec_needs_a_storage_type_of_sqlite() -> None:
    """The error names the types."""
    with pytest.raises(TypeError, match="pass str, int, float or bytes"):
        Codec(encode=str, decode=str, storage=list)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02 03:04:05", AT.replace(microsecond=0)),
        ("2026-01-02T05:04:05+02:00", AT.replace(microsecond=0)),
        ("2026-01-02", datetime(2026, 1, 2, tzinfo=UTC)),
    ],
)
def test_a_datetime_of_another_writer_is_read(text: str, expected: datetime) -> None:
    """SQLite's CURRENT_TIMESTAMP has no offset, and is in UTC."""
    [column] = Table.from_columns({"c": datetime}, name="t").columns
    assert column.type.codec is not None
    actual = column.type.codec.decode(text)
    assert (expected, UTC) == (actual, actual.tzinfo)


def test_a_later_change_of_a_json_value_has_no_effect() -> None:
    """The value is encoded at the call."""
    payload = {"a": 1}
    row = RowValidator(
        Table.from_columns({"c": Annotated[dict[str, int], Json]}, name="t")
    ).validate_row((payload,))
    payload["a"] = 2
    assert ('{"a":1}',) == row


class Day(date):
    pass


class Hour(time):
    pass


@pytest.mark.parametrize(
    ("annotation", "value", "stored"),
    [(date, Day(2026, 1, 2), "2026-01-02"), (time, Hour(3, 4, 5, 6), "03:04:05.000006")],
)
def test_subclasses_of_date_and_time_are_stored_as_their_base_class(
    annotation: Any, value: Any, stored: str
) -> None:
    """They have no more digits than the base class."""
    for check in checks(RowValidator(Table.from_columns({"c": annotation}, name="t"))):
        assert stored == check(value)


@pytest.mark.parametrize(
    ("annotation", "stored"),
    [
        (time, "03:04:05+02:00"),
        (Decimal, "NaN"),
        (Annotated[list[int | str | None], Json], "[1.5]"),
        (Annotated[list[Annotated[int, "a comment"]], Json], '["a"]'),
        (Annotated[Options, Json], "[]"),
    ],
)
def test_a_stored_value_that_no_program_wrote_is_not_decoded(annotation: Any, stored: str) -> None:
    """Another program may have stored it."""
    [column] = Table.from_columns({"c": annotation}, name="t").columns
    assert column.type.codec is not None
    with pytest.raises(ValueError):  # noqa: PT011  # each type has its own message
        column.type.codec.decode(stored)


def test_members_of_json_may_be_unions_and_typed_dictionaries() -> None:
    """A member comes back as the first type of its union that it fits."""
    annotation = Annotated[list[Point | int | str | None], Json]
    [column] = Table.from_columns({"c": annotation}, name="t").columns
    assert column.type.codec is not None
    value = [Point(1), 2, "a", None]
    assert value == column.type.codec.decode(column.type.codec.encode(value))
    [column] = Table.from_columns({"c": Annotated[Options, Json]}, name="t").columns
    assert column.type.codec is not None
    for options in (Options(depth=1, name="a"), Options(depth=1, name="a", start=Point(1, 2.0))):
        assert options == column.type.codec.decode(column.type.codec.encode(options))
