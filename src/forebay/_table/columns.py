"""Columns: what a row type's annotations say of the values that SQLite is to hold."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
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
"""Which exact types of values belong to a storage type."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        name: the column's name, the row type's field.
        storage: the one type its values have, or None where the annotation allows several.
        nullable: whether the annotation allows None.
        merge: what a later row does to this column.
    """

    name: str
    storage: Storage | None
    nullable: bool
    merge: Merge = Merge.REPLACE

    @property
    def expected(self) -> str:
        """What the column takes, in words for an error."""
        name = "a value" if self.storage is None else self.storage.__name__
        return f"{name} or None" if self.nullable else name


def resolve_annotations(row_type: type) -> Mapping[str, Any]:
    """Give the annotation of each field of a row type, by the field's name, in order.

    Raises:
        TypeError: it is no NamedTuple, dataclass, attrs class or msgspec Struct, or one of its
            fields has no annotation, or one names what cannot be found from the class's module.
    """
    fields = _fields_of(row_type)
    try:
        annotations = typing.get_type_hints(row_type, include_extras=True)
    except NameError as error:
        raise TypeError(
            f"the annotations of row_type {row_type.__qualname__} cannot be resolved: {error}; "
            f"define the row type, and what it names, at the top of a module"
        ) from error
    if missing := [field for field in fields if field not in annotations]:
        raise TypeError(
            f"row_type {row_type.__qualname__}: {', '.join(map(repr, missing))} without an "
            f"annotation; write the type that SQLite is to hold, as in `{missing[0]}: str`"
        )
    return {field: annotations[field] for field in fields}


def _fields_of(row_type: Any) -> tuple[str, ...]:
    declared = row_type  # stays of any type, where the class does not
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


def parse_annotation(annotation: Any) -> tuple[Storage | None, bool]:
    """Tell which storage type an annotation means, and whether it allows None.

    Returns:
        The storage type (None where several fit) and whether None is allowed.

    Raises:
        TypeError: SQLite cannot hold such a value.
    """
    members = [_parse_member(member) for member in _members(annotation)]
    nullable = type(None) in members
    storages = {member for member in members if member is not type(None)}
    if not storages or object in storages:
        return None, nullable or object in storages
    if storages == {int, float}:
        return float, nullable
    if len(storages) > 1:
        return None, nullable
    return storages.pop(), nullable


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
        for storage in VALUE_TYPES:
            if issubclass(member, storage):
                return storage
    raise TypeError(
        f"SQLite cannot hold a {getattr(member, '__name__', member)}; "
        f"declare str, int, float, bytes or bool (times as numbers, ids as str or bytes)"
    )
