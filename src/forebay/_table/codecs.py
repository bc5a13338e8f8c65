"""Codecs: how values of types that SQLite does not have are stored, and read again.

A value is encoded when a program passes it to a buffer. From there on (pending entries, batches,
dead letters, spills) there is only the stored value.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

from forebay._table.sqlite_rules import INT64

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Codec(Generic[T]):
    """How the values of a column are stored. It is part of an annotation.

    Attributes:
        encode: takes a value and returns what is stored. It raises an error for a value that
            cannot be stored: the caller gets it, with the table and the column.
        decode: takes what is stored and returns the value. It raises an error for a stored value
            that is invalid. It may run in a worker thread.
        storage: the type of what is stored: `str`, `int`, `float` or `bytes`.
        keeps_equality: whether two values are equal exactly if what is stored is equal. Only then
            the column can be a key or `delete_by`.
        keeps_order: whether, in addition, a value is less than another one exactly if what is
            stored is less. Only then the column can have the rule `Min` or `Max`. Python's order
            of `str` and `bytes` is that of SQLite.
        value_type: the class of the values; None if the annotation alone says it.
        never_numeric: whether no text that is stored looks like a number. Columns that other tools
            declare as ``DATETIME``, ``DATE``, ``UUID`` or ``JSON`` would store such a text as a
            number, so a column of texts needs this to be used with them.

    Example:
        >>> from typing import Annotated, NamedTuple
        >>> from pathlib import PurePosixPath
        >>> Path = Annotated[
        ...     PurePosixPath,
        ...     Codec(encode=str, decode=PurePosixPath, storage=str, keeps_equality=True),
        ... ]
        >>> class File(NamedTuple):
        ...     path: Path
        ...     size: int
    """

    encode: Callable[[T], Any]
    decode: Callable[[Any], T]
    storage: type[str | int | float | bytes]
    keeps_equality: bool = False
    keeps_order: bool = False
    value_type: type[T] | None = None
    never_numeric: bool = False

    def __post_init__(self) -> None:
        """Check the storage type.

        Raises:
            TypeError: SQLite does not have this type.
        """
        if self.storage not in (str, int, float, bytes):
            raise TypeError(
                f"storage={self.storage!r}: SQLite does not have this type; "
                f"pass str, int, float or bytes"
            )


def _to_utc(value: datetime) -> datetime:
    """Return a datetime in UTC, of the class `datetime` itself.

    Raises:
        ValueError: the datetime has no time zone, or a subclass has more digits than microseconds.
        OverflowError: in UTC, it is before year 1 or after year 9999.
    """
    if value.utcoffset() is None:
        raise ValueError(
            "the datetime has no time zone; pass an aware one, such as datetime.now(UTC)"
        )
    if value.tzinfo is not UTC:
        value = value.astimezone(UTC)
    if type(value) is not datetime:
        return _of_base_class(value, datetime.combine(value.date(), value.time(), UTC))
    return value


def _of_base_class(value: T, base: T) -> T:
    if value != base:
        raise ValueError(f"it is not equal to {base!r}, which would be stored")
    return base


def _from_iso(text: str) -> datetime:
    value = datetime.fromisoformat(text)
    # SQLite's CURRENT_TIMESTAMP and datetime() write UTC without an offset.
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _encode_datetime(value: datetime) -> str:
    return _to_utc(value).isoformat(" ", "microseconds")


def _encode_iso8601(value: datetime) -> str:
    return _to_utc(value).isoformat("T", "microseconds").replace("+00:00", "Z")


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_MICROSECOND: Final = timedelta(microseconds=1)


def _encode_seconds(value: datetime) -> int:
    seconds, rest = divmod(_to_utc(value) - _EPOCH, _SECOND)
    if rest:
        raise ValueError(
            "the datetime has a fraction of a second; remove it with "
            "value.replace(microsecond=0), or use forebay.UnixMicroseconds"
        )
    return seconds


def _encode_date(value: date) -> str:
    if isinstance(value, datetime):
        raise TypeError("a datetime has a time, which a date has not; pass value.date()")
    if type(value) is not date:
        value = _of_base_class(value, date(value.year, value.month, value.day))
    return value.isoformat()


def _encode_time(value: time) -> str:
    if value.tzinfo is not None:
        raise ValueError("the time has a time zone, which has no offset without a date")
    if type(value) is not time:
        base = time(value.hour, value.minute, value.second, value.microsecond)
        value = _of_base_class(value, base)
    return value.isoformat()


def _decode_time(text: str) -> time:
    value = time.fromisoformat(text)
    if value.tzinfo is not None:
        raise ValueError("the time has an offset")
    return value


def _encode_decimal(value: Decimal) -> str:
    if value.is_nan():
        raise ValueError("NaN is not stored; pass None in a column that allows it")
    return Decimal.__str__(value)


def _decode_decimal(text: str) -> Decimal:
    value = Decimal(text)
    if value.is_nan():
        raise ValueError("NaN is not a value")
    return value


def _encode_uuid_bytes(value: UUID) -> bytes:
    return value.bytes


def _decode_uuid_bytes(stored: bytes) -> UUID:
    return UUID(bytes=stored)


def _ordered_text(
    encode: Callable[[T], str], decode: Callable[[str], T], *, value_type: type[T] | None = None
) -> Codec[T]:
    """Return the codec of a format whose texts have the order of the values, and no numbers."""
    return Codec(
        encode=encode,
        decode=decode,
        storage=str,
        keeps_equality=True,
        keeps_order=True,
        value_type=value_type,
        never_numeric=True,
    )


UnixSeconds: Final[Codec[datetime]] = Codec(
    encode=_encode_seconds,
    decode=lambda seconds: _EPOCH + seconds * _SECOND,
    storage=int,
    keeps_equality=True,
    keeps_order=True,
    value_type=datetime,
)
"""A datetime as whole seconds since 1970, UTC. A fraction of a second is refused."""

UnixMicroseconds: Final[Codec[datetime]] = Codec(
    encode=lambda value: (_to_utc(value) - _EPOCH) // _MICROSECOND,
    decode=lambda microseconds: _EPOCH + microseconds * _MICROSECOND,
    storage=int,
    keeps_equality=True,
    keeps_order=True,
    value_type=datetime,
)
"""A datetime as microseconds since 1970, UTC."""

Iso8601: Final[Codec[datetime]] = _ordered_text(_encode_iso8601, _from_iso, value_type=datetime)
"""A datetime as ``2026-01-31T23:59:59.000000Z``, always UTC and with microseconds."""

UuidBytes: Final[Codec[UUID]] = Codec(
    encode=_encode_uuid_bytes,
    decode=_decode_uuid_bytes,
    storage=bytes,
    keeps_equality=True,
    keeps_order=True,
    value_type=UUID,
)
"""A UUID as its 16 bytes."""

_BUILT_IN: Final[Mapping[Any, Codec[Any]]] = {
    datetime: _ordered_text(_encode_datetime, _from_iso),
    date: _ordered_text(_encode_date, date.fromisoformat),
    time: _ordered_text(_encode_time, _decode_time),
    UUID: _ordered_text(str, UUID),
    Decimal: Codec(encode=_encode_decimal, decode=_decode_decimal, storage=str),
}


def built_in_codec(value_type: Any) -> Codec[Any] | None:
    """Return the codec of a type that needs no codec in its annotation, or None."""
    if isinstance(value_type, type) and issubclass(value_type, enum.Enum):
        return _enum_codec(value_type)
    return _BUILT_IN.get(value_type) if isinstance(value_type, type) else None


@cache  # so that two declarations are equal
def _enum_codec(cls: type[enum.Enum]) -> Codec[enum.Enum]:
    """Return the codec of an enum: by value if all are str or all are int, else by name."""
    values = [member.value for member in cls]
    types = set(map(type, values))
    for storage in (str, int):
        if types == {storage} and (storage is str or all(value in INT64 for value in values)):
            return Codec(
                encode=lambda member: member.value,
                decode=cls,
                storage=storage,
                keeps_equality=True,
                # A StrEnum and an IntEnum compare as their values; an Enum has no order.
                keeps_order=issubclass(cls, storage),
            )
    return Codec(
        encode=lambda member: member.name,
        decode=lambda name: cls[name],
        storage=str,
        keeps_equality=True,
    )
