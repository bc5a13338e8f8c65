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


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        name: the column's name, which is the name of the row type's field.
        storage: the storage type of its values; None if the annotation allows several.
        nullable: whether the annotation allows None.
        merge: the rule by which a later row changes this column.
    """

    name: str
    storage: Storage | None
    nullable: bool
    merge: Merge = Merge.REPLACE

    @property
    def expected(self) -> str:
        """The types of values that the column accepts, as an error message names them."""
        accepted = [t.__name__ for t in (VALUE_TYPES if self.storage is None else [self.storage])]
        return join_alternatives([*accepted, "None"] if self.nullable else accepted)


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


def parse_annotation(annotation: Any) -> tuple[Storage | None, bool]:
    """Return the storage type that an annotation means, and whether it allows None.

    Args:
        annotation: the annotation of a field.

    Returns:
        The storage type, or None if the annotation allows several; and whether it allows None.

    Raises:
        TypeError: SQLite cannot store values of this type.
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
        f"SQLite cannot store a value of type {getattr(member, '__name__', member)}; "
        f"declare str, int, float, bytes or bool (times as numbers, ids as str or bytes)"
    )
