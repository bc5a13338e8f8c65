"""The columns of a table, as the annotations of a row type declare them."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, NewType, TypeAlias, Union

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
        accepts: the exact types of the other values that the column allows.
    """

    storage: Storage | None
    nullable: bool
    accepts: frozenset[type]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        name: the column's name, which is the name of the row type's field.
        type: what its values are, and how they are stored.
        merge: the rule by which a later row changes this column.
    """

    name: str
    type: ColumnType
    merge: Merge = Merge.REPLACE

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
        return self.storage is not None and self.type.accepts <= VALUE_TYPES[self.storage]

    @property
    def expected(self) -> str:
        """The types of values that the column accepts, as an error message names them."""
        accepts = self.type.accepts
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


def join_alternatives(names: Iterable[str]) -> str:
    """Return names as a list for a message, such as `str, int or None`."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def resolve_annotations(row_type: type) -> Mapping[str, Any]:
    """Return the annotation of each field of a row type, by the field's name, in order.

    Args:
        row_type: the class.

    Raises:
        TypeError: the class is not a NamedTuple, dataclass, attrs class or msgspec Struct, or a
            field has no annotation, or an annotation contains a name that is not defined in the
            module of the class.
    """
    fields = _fields_of(row_type)
    try:
        annotations = typing.get_type_hints(row_type, include_extras=True)
    except NameError as error:
        raise TypeError(
            f"row_type {row_type.__qualname__}: cannot resolve its annotations: {error}; define "
            f"the row type, and every type that it names, at the top level of a module"
        ) from error
    if missing := [field for field in fields if field not in annotations]:
        raise TypeError(
            f"row_type {row_type.__qualname__}: no annotation on {', '.join(map(repr, missing))}; "
            f"annotate each field with the type of its values, such as `{missing[0]}: str`"
        )
    return {field: annotations[field] for field in fields}


def _fields_of(row_type: Any) -> tuple[str, ...]:
    declared = row_type  # keeps the type Any, which isinstance narrows below
    if isinstance(row_type, type):
        if issubclass(row_type, tuple) and hasattr(row_type, "_fields"):
            return tuple(declared._fields)
        if dataclasses.is_dataclass(row_type):
            return tuple(field.name for field in dataclasses.fields(row_type))
        if hasattr(row_type, "__attrs_attrs__"):
            return tuple(attribute.name for attribute in declared.__attrs_attrs__)
        if hasattr(row_type, "__struct_fields__"):
            return tuple(declared.__struct_fields__)
    raise TypeError(
        f"row_type must be a NamedTuple, a dataclass, an attrs class or a msgspec Struct, "
        f"not {row_type!r}"
    )


def parse_annotation(annotation: Any) -> ColumnType:
    """Return what an annotation means for a column.

    Args:
        annotation: the annotation of a field.

    Raises:
        TypeError: SQLite cannot store values of this type.
    """
    members = {_parse_member(member) for member in _members(annotation)}
    nullable = bool(members & {type(None), object})
    members.discard(type(None))
    if not members or object in members:
        return ColumnType(None, nullable, ALL_TYPES)
    accepts = frozenset[type]().union(*(VALUE_TYPES.get(m, frozenset({m})) for m in members))
    for marker in getattr(annotation, "__metadata__", ()):
        if isinstance(marker, StoredAs):
            return ColumnType(marker.storage, nullable, accepts)
    if accepts == {int, bool, float}:
        return ColumnType(float, nullable, VALUE_TYPES[float])  # an int is valid for a float
    storages = [storage for storage in VALUE_TYPES if accepts <= VALUE_TYPES[storage]]
    return ColumnType(storages[0] if storages else None, nullable, accepts)


def _members(annotation: Any) -> tuple[Any, ...]:
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return _members(typing.get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return tuple(m for member in typing.get_args(annotation) for m in _members(member))
    if origin is Literal:
        return tuple(type(value) for value in typing.get_args(annotation))
    if isinstance(annotation, NewType):
        return _members(annotation.__supertype__)
    return (annotation,)


def _parse_member(member: Any) -> Any:
    if member is None or member is type(None):
        return type(None)
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
    raise TypeError(
        f"SQLite cannot store a value of type {getattr(member, '__name__', member)}; "
        f"declare str, int, float, bytes or bool (times as numbers, ids as str or bytes)"
    )
