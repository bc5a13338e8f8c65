"""The fields of a row type: their names, annotations and defaults."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

R = TypeVar("R")


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


def default_values(row_type: Any) -> Mapping[str, Any]:
    """Return the default of each field of a row type that has one, by the field's name.

    The result of a default factory is no constant, so it is left out.

    Args:
        row_type: the class, which `resolve_annotations` accepts.
    """
    if hasattr(row_type, "_field_defaults"):
        found = dict(row_type._field_defaults)
    elif dataclasses.is_dataclass(row_type):
        found = {field.name: field.default for field in dataclasses.fields(row_type)}
    elif hasattr(row_type, "__attrs_attrs__"):
        found = {attribute.name: attribute.default for attribute in row_type.__attrs_attrs__}
    else:
        defaults = row_type.__struct_defaults__
        names = row_type.__struct_fields__
        found = dict(zip(names[len(names) - len(defaults) :], defaults, strict=True))
    return {name: value for name, value in found.items() if type(value).__module__ not in _MARKERS}


_MARKERS: Final = frozenset({"dataclasses", "attr._make", "msgspec._core"})
"""The modules of the objects that mean "no default" or "a factory"."""


def row_maker(row_type: type[R], fields: Sequence[str]) -> Callable[[tuple[Any, ...]], R]:
    """Return a function that takes the values of a row and returns an instance of its type.

    Args:
        row_type: the class, which `resolve_annotations` accepts, or `tuple`.
        fields: the names of its fields, in the order of the values.

    Raises:
        TypeError: the constructor does not take all fields.
    """
    cls: Any = row_type  # keeps the type Any, which issubclass narrows below
    if issubclass(row_type, tuple):
        make: Callable[[tuple[Any, ...]], R] = cls if row_type is tuple else cls._make
        return make
    names = [_parameter(cls, field) for field in fields]

    def construct(values: tuple[Any, ...]) -> R:
        row: R = cls(**dict(zip(names, values, strict=True)))
        return row

    return construct


def _parameter(row_type: Any, field: str) -> str:
    """Return the name of the constructor's parameter for a field."""
    declared_type, declared = row_type, None  # keeps the type Any, which is_dataclass narrows
    if dataclasses.is_dataclass(row_type):
        [declared] = [found for found in dataclasses.fields(row_type) if found.name == field]
    elif hasattr(row_type, "__attrs_attrs__"):
        [declared] = [found for found in row_type.__attrs_attrs__ if found.name == field]
    if declared is not None and not declared.init:
        raise TypeError(
            f"row_type {declared_type.__qualname__}: {field!r} has init=False, so no row can "
            f"be made of the values that were read; read without table=…"
        )
    return str(getattr(declared, "alias", None) or field)
