"""A table with a column of each type, a row with a value in each column, and what is stored."""

from __future__ import annotations

import dataclasses
import enum
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, NewType
from uuid import UUID

import msgspec

import forebay


class State(enum.Enum):
    NEW = "new"
    DONE = "done"


class Level(enum.Enum):
    LOW = 1


class Colour(enum.StrEnum):
    RED = "red"


class Rank(enum.IntEnum):
    FIRST = 1


class Mixed(enum.Enum):
    A = 1
    B = "b"


@dataclasses.dataclass
class Point:
    x: float
    y: float


class Config(msgspec.Struct):
    retries: int
    when: datetime


UserName = NewType("UserName", str)
Path = Annotated[
    PurePosixPath,
    forebay.Codec(encode=str, decode=PurePosixPath, storage=str, keeps_equality=True),
]
WHEN = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
SECOND = WHEN.replace(microsecond=0)


class Everything(NamedTuple):
    id: UUID
    text: str
    number: int
    real: float
    data: bytes
    any: Any
    several: int | str
    user: UserName
    literal: Literal["a", "b"]
    when: datetime
    seconds: Annotated[datetime, forebay.UnixSeconds]
    microseconds: Annotated[datetime, forebay.UnixMicroseconds]
    iso: Annotated[datetime, forebay.Iso8601]
    day: date
    at: time
    id16: Annotated[UUID, forebay.UuidBytes]
    price: Decimal
    state: State
    level: Level
    colour: Colour
    rank: Rank
    mixed: Mixed
    payload: Annotated[dict[str, Any], forebay.Json]
    points: Annotated[list[Point], forebay.Json]
    config: Annotated[Config, forebay.Json]
    path: Path
    note: UUID | None
    class_: date | None


ROW = Everything(
    id=UUID(int=1),
    text="a\0é",
    number=2**63 - 1,
    real=float("-inf"),
    data=b"\0\xff",
    any=None,
    several="1",
    user=UserName("u"),
    literal="a",
    when=WHEN,
    seconds=SECOND,
    microseconds=WHEN,
    iso=WHEN,
    day=WHEN.date(),
    at=WHEN.time(),
    id16=UUID(int=2),
    price=Decimal("1.50"),
    state=State.NEW,
    level=Level.LOW,
    colour=Colour.RED,
    rank=Rank.FIRST,
    mixed=Mixed.B,
    payload={"b": [1, None, "é"], "a": True},
    points=[Point(1.5, 2.0)],
    config=Config(3, WHEN),
    path=PurePosixPath("/a/b"),
    note=None,
    class_=WHEN.date(),
)

STORED: tuple[Any, ...] = (
    str(UUID(int=1)),
    "a\0é",
    2**63 - 1,
    float("-inf"),
    b"\0\xff",
    None,
    "1",
    "u",
    "a",
    "2026-01-02 03:04:05.000006+00:00",
    1767323045,
    1767323045000006,
    "2026-01-02T03:04:05.000006Z",
    "2026-01-02",
    "03:04:05.000006",
    UUID(int=2).bytes,
    "1.50",
    "new",
    1,
    "red",
    1,
    "B",
    '{"b":[1,null,"é"],"a":true}',
    '[{"x":1.5,"y":2.0}]',
    '{"retries":3,"when":"2026-01-02T03:04:05.000006Z"}',
    "/a/b",
    None,
    "2026-01-02",
)

EVERYTHING = forebay.Table(
    Everything,
    name="everything",
    key="id",
    merge={"when": forebay.Min, "iso": forebay.Max, "number": forebay.Sum, "payload": forebay.Keep},
    delete_by="id16",
    column_names={"class_": "class"},
    indexes=["when", forebay.Index("iso", unique=True, where="mixed = 'A'")],
)
COLUMNS = tuple(column.name for column in EVERYTHING.columns)
UPDATED: dict[str, Any] = {
    name: value for name, value in ROW._asdict().items() if name not in ("id", "note")
}
"""The arguments of an update of all columns outside the key but one."""
