"""The columns of a table, as the annotations of a row type declare them."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, NewType, TypeAlias, Union

from forebay._table.codecs import Codec, built_in_codec
from forebay._table.json_codec import JsonFormat, json_codec
from forebay._table.merge import Merge

Storage: TypeAlias = type[str] | type[int] | type[float] | type[bytes]

VALUE_TYPES: Final[Mapping[Storage, frozenset[type]]] = {
    str: frozenset({str}),
    int: frozenset({int, bool}),
    float: frozenset({float}),
    bytes: frozenset({bytes}),
}
"""The exact types of the values that a column with this storage type holds."""

ALL_TYPES: Final = frozenset[type]().union(*VALUE_TYPES.values())
"""The exact types of the values that SQLite stores, except NULL."""


@dataclass(frozen=True, slots=True)
class ColumnType:
    """What an annotation means for a column.

    Attributes:
        storage: the type of the values in the table; None if the column may hold several types.
        nullable: whether the column allows None.
        accepts: the types of the other values that the column allows. Without a codec, they are
            the exact types of the stored values.
        codec: how the values are stored; None if they are stored as they are.
    """

    storage: Storage | None
    nullable: bool
    accepts: frozenset[type]
    codec: Codec[Any] | None = None

    @property
    def stored(self) -> frozenset[type]:
        """The exact types of the values in the table, except NULL."""
        if self.codec is None:
            return self.accepts
        return VALUE_TYPES[self.codec.storage]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    A program names the field: in the arguments of `Table` and of calls. SQL, entries, dead letters
    and spills have the column's name.

    Attributes:
        name: the column's name in the database.
        field: the name of the row type's field, which is the column's name unless the declaration
            has another one.
        type: what its values are, and how they are stored.
        merge: the rule by which a later row changes this column.
        default: the value that is stored in a row that another program inserts without this
            column, or that was inserted before the column was added; None for NULL.
    """

    name: str
    field: str
    type: ColumnType
    merge: Merge = Merge.REPLACE
    default: str | int | float | bytes | None = None

    @property
    def label(self) -> str:
        """The column's name, and the field's if it is another one, as an error message has it."""
        mapped = "" if self.field == self.name else f" (field {self.field!r})"
        return f"{self.name!r}{mapped}"

    @property
    def storage(self) -> Storage | None:
        """The type of its values in the table; None if it may hold several types."""
        return self.type.storage

    @property
    def nullable(self) -> bool:
        """Whether it allows None."""
        return self.type.nullable

    @property
    def has_one_type(self) -> bool:
        """Whether all its values, except None, have the same type in the table."""
        return self.storage is not None and self.type.stored <= VALUE_TYPES[self.storage]

    @property
    def expected(self) -> str:
        """The types of values that the column accepts, as an error message names them."""
        accepts = self.type.accepts
        if self.type.codec is not None:
            names = sorted(accepted.__name__ for accepted in accepts)
        else:
            order = [*VALUE_TYPES, bool] if int not in accepts else VALUE_TYPES
            names = [t.__name__ for t in order if t in accepts]
        return join_alternatives([*names, "None"] if self.nullable else names)


@dataclass(frozen=True, slots=True)
class StoredAs:
    """The type that a column has in the table, although it holds values of other types too.

    It is part of an annotation: `Annotated[int | str, StoredAs(int)]`. `forebay load` uses it,
    since a column of numbers in a file may contain a text.
    """

    storage: Storage


def check_equality(table: str, column: Column, role: str) -> None:
    """Check that equal values of a column are stored equally.

    Args:
        table: the table's name, for the error.
        column: the column.
        role: what needs it, for the error.

    Raises:
        TypeError: equal values may be stored differently.
    """
    codec = column.type.codec
    if codec is not None and not codec.keeps_equality:
        raise TypeError(
            f"table {table!r}: {role} {column.label} is stored by a codec under which equal values "
            f"may be stored differently ({column.expected} as {codec.storage.__name__}), so a row "
            f"would not be found; use another column"
        )


def join_alternatives(names: Iterable[str]) -> str:
    """Return names as a list for a message, such as `str, int or None`."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def parse_annotation(annotation: Any) -> ColumnType:
    """Return what an annotation means for a column.

    Args:
        annotation: the annotation of a field.

    Raises:
        TypeError: SQLite cannot store values of this type, or the column would have values of
            several types of which one needs a codec.
    """
    members = list(_members(annotation, None))
    nullable = any(member in (Any, object, None, type(None)) for member, _ in members)
    members = [(member, codec) for member, codec in members if member not in (None, type(None))]
    codecs = list(dict.fromkeys(codec for _, codec in members if codec is not None))
    if codecs:
        return _typed(members, codecs, nullable=nullable)
    types = {_plain_type(member) for member, _ in members}
    if not types or object in types:
        return ColumnType(None, nullable, ALL_TYPES)
    accepts = frozenset[type]().union(*(VALUE_TYPES.get(t, frozenset({t})) for t in types))
    for marker in getattr(annotation, "__metadata__", ()):
        if isinstance(marker, StoredAs):
            return ColumnType(marker.storage, nullable, accepts)
    if accepts == frozenset[type]({int, bool, float}):
        return ColumnType(float, nullable, VALUE_TYPES[float])  # an int is valid for a float
    storages = [storage for storage in VALUE_TYPES if accepts <= VALUE_TYPES[storage]]
    return ColumnType(storages[0] if storages else None, nullable, accepts)


def _members(annotation: Any, codec: Codec[Any] | None) -> Iterator[tuple[Any, Codec[Any] | None]]:
    """Yield the types that an annotation consists of, each with its codec.

    Args:
        annotation: the annotation.
        codec: the codec that was found around it, or None.
    """
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is Annotated:
        yield from _members(arguments[0], codec or _declared_codec(annotation))
    elif origin in (Union, types.UnionType):
        for member in arguments:
            yield from _members(member, codec)
    elif origin is Final:
        yield from _members(arguments[0], codec)
    elif origin is Literal:
        yield from dict.fromkeys((type(v), codec or built_in_codec(type(v))) for v in arguments)
    elif isinstance(annotation, NewType):
        yield from _members(annotation.__supertype__, codec)
    elif hasattr(origin, "__value__"):  # a generic alias: `type Many[T] = list[T]`
        yield from _members(origin.__value__[arguments], codec)
    elif hasattr(annotation, "__value__"):  # an alias: `type Id = UUID`
        yield from _members(annotation.__value__, codec)
    elif annotation in (None, type(None)):
        yield None, None
    else:
        yield origin or annotation, codec or built_in_codec(annotation)


def _declared_codec(annotation: Any) -> Codec[Any] | None:
    """Return the codec that is part of `Annotated[…]`, or None. The last one counts."""
    for marker in reversed(annotation.__metadata__):
        if isinstance(marker, JsonFormat):
            return json_codec(annotation.__origin__)
        if isinstance(marker, Codec):
            return marker
    return None


def _typed(
    members: list[tuple[Any, Codec[Any] | None]], codecs: list[Codec[Any]], *, nullable: bool
) -> ColumnType:
    """Return the type of a column whose values have a codec.

    Raises:
        TypeError: the codec is not that of all members, or does not fit one.
    """
    codec, *others = codecs
    accepts = [object if member is Any else _as_class(member) for member, _ in members]
    names = join_alternatives(accepted.__name__ for accepted in accepts)
    if others or any(found is None for _, found in members):
        raise TypeError(
            f"a column that is stored by a codec has values of one type, not {names}; "
            f"declare one type, or one codec for all: Annotated[…, forebay.Codec(…)]"
        )
    for accepted in accepts:
        if codec.value_type is not None and not issubclass(accepted, codec.value_type):
            raise TypeError(
                f"the codec stores values of type {codec.value_type.__name__}, not "
                f"{accepted.__name__}"
            )
    return ColumnType(codec.storage, nullable, frozenset(accepts), codec)


def _as_class(member: Any) -> type:
    if typing.is_typeddict(member):
        return dict
    if isinstance(member, type):
        return member
    raise TypeError(f"expected a class, got {member!r}")


def _plain_type(member: Any) -> type:
    """Return which of the types that SQLite stores a type is; `object` for all of them."""
    if member in (Any, object):
        return object
    if isinstance(member, type):
        if issubclass(member, bytearray | memoryview):
            return bytes
        if member is bool:
            return bool
        for storage in VALUE_TYPES:
            if issubclass(member, storage):
                return storage
    name = getattr(member, "__name__", member)
    raise TypeError(
        f"SQLite cannot store a value of type {name}; declare str, int, float, bytes, bool, "
        f"datetime, date, time, UUID, Decimal or an Enum, or a codec: "
        f"Annotated[{name}, forebay.Json] or Annotated[{name}, forebay.Codec(…)]"
    )
