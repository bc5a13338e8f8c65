"""How dates and datetimes are sent. The server would change one outside its range."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from forebay._table.codecs import built_in_codec
from forebay._table.columns import ColumnType
from forebay.stores.clickhouse._encoding import Encoding, ValueRefusedError, out_of_range
from forebay.stores.clickhouse._server_types import ServerType

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = date(1970, 1, 1).toordinal()
_MICROSECOND: Final = timedelta(microseconds=1)

_DATES: Final = {
    "Date": ("H", range(2**16)),
    "Date32": (
        "i",
        range(date(1900, 1, 1).toordinal() - _DAY, date(2300, 1, 1).toordinal() - _DAY),
    ),
}


def date_encoding(column: ColumnType, server: ServerType) -> Encoding | None:
    """Return how dates are sent, or None."""
    if column.codec is not built_in_codec(date) or server.name not in _DATES:
        return None
    code, allowed = _DATES[server.name]

    def encode(values: Sequence[str]) -> bytes:
        days = [date.fromisoformat(value).toordinal() - _DAY for value in values]
        for value, day in zip(values, days, strict=True):
            if day not in allowed:
                raise out_of_range(value, server)
        return struct.pack(f"<{len(days)}{code}", *days)

    def decode(data: bytes, rows: int) -> list[Any]:
        days = struct.unpack(f"<{rows}{code}", data)
        return [date.fromordinal(day + _DAY).isoformat() for day in days]

    return Encoding(encode, decode, "1970-01-01")


def datetime_encoding(column: ColumnType, server: ServerType) -> Encoding | None:
    """Return how datetimes are sent, or None."""
    codec = built_in_codec(datetime)
    if codec is None or column.codec is not codec or server.name not in ("DateTime", "DateTime64"):
        return None
    digits = int(server.arguments[0]) if server.name == "DateTime64" else 0
    code = "q" if server.name == "DateTime64" else "I"
    first, end = _range_of_datetimes(server.name, digits)

    def encode(values: Sequence[str]) -> bytes:
        ticks: list[int] = []
        for value in values:
            micros = (datetime.fromisoformat(value) - _EPOCH) // _MICROSECOND
            if not first <= micros < end:
                raise out_of_range(value, server)
            if digits >= 6:
                ticks.append(micros * 10 ** (digits - 6))
                continue
            tick, rest = divmod(micros, 10 ** (6 - digits))
            if rest:
                raise ValueRefusedError(f"{value!r} has more digits than {server} holds")
            ticks.append(tick)
        return struct.pack(f"<{len(ticks)}{code}", *ticks)

    def decode(data: bytes, rows: int) -> list[Any]:
        ticks = struct.unpack(f"<{rows}{code}", data)
        micros = (tick * 10**6 // 10**digits for tick in ticks)
        return [codec.encode(_EPOCH + micro * _MICROSECOND) for micro in micros]

    return Encoding(encode, decode, codec.encode(_EPOCH))


def _range_of_datetimes(name: str, digits: int) -> tuple[int, int]:
    """Return the first microsecond that a type holds, and the one after the last."""
    if name == "DateTime":
        return 0, 2**32 * 10**6
    first = (datetime(1900, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
    end = (datetime(2300, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
    return first, min(end, (2**63 - 1) * 10**6 // 10**digits)
