"""`Json`: store a dict, a list, a dataclass or a msgspec Struct as JSON text."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterable
from typing import Any, Final, Union

from forebay._table.codecs import Codec


@dataclasses.dataclass(frozen=True, slots=True)
class JsonFormat:
    """The class of `Json`."""

    def __repr__(self) -> str:
        return "forebay.Json"


Json: Final = JsonFormat()
"""Store the values of a column as JSON text: `Annotated[dict[str, Any], forebay.Json]`.

The text is compact, and the keys have their order. A value may contain None, `bool`, `int`, finite
`float`, `str`, lists, tuples, dicts whose keys are `str`, and dataclasses. It comes back as the
annotation says; inside `Any`, a tuple comes back as a list and a dataclass as a dict. A msgspec
Struct is converted by msgspec, with all the types that msgspec supports.
"""


def json_codec(annotation: Any) -> Codec[Any]:
    """Return the codec that stores values of an annotated type as JSON.

    Args:
        annotation: the annotation without `Json`.
    """
    if _mentions_struct(annotation):
        from msgspec import convert, to_builtins  # noqa: PLC0415  # only programs with Structs need it

        return Codec(
            encode=lambda value: _dump(to_builtins(value, str_keys=True)),
            decode=lambda text: convert(json.loads(text), annotation),
            storage=str,
            never_numeric=_is_container(annotation),
        )
    return Codec(
        encode=lambda value: _dump(_to_builtins(value)),
        decode=lambda text: _build(annotation, json.loads(text)),
        storage=str,
        never_numeric=_is_container(annotation),
    )


def _is_container(annotation: Any) -> bool:
    """Return whether the JSON of each value begins with a brace or a bracket."""
    kind = typing.get_origin(annotation) or annotation
    if not isinstance(kind, type):
        return False
    return (
        issubclass(kind, dict | list | tuple)
        or dataclasses.is_dataclass(kind)
        or hasattr(kind, "__struct_fields__")
    )


# json.dumps would make an encoder at each call.
_dump: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

_SCALARS: Final = (str, int, float)
_ARRAYS: Final = (list, tuple)


def _to_builtins(value: Any) -> Any:
    """Return a value as the types of JSON.

    Raises:
        TypeError: JSON has no such value.
    """
    if value is None or isinstance(value, _SCALARS):
        return value
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"JSON has only str keys, not {key!r} of type {type(key).__name__}")
        return {key: _to_builtins(item) for key, item in value.items()}
    if isinstance(value, _ARRAYS):
        return [_to_builtins(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _to_builtins(getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
    raise TypeError(f"JSON has no value of type {type(value).__name__}: {value!r}")


def _build(annotation: Any, data: Any) -> Any:
    """Return data that was read from JSON as the type that an annotation says."""
    if annotation in (Any, object):
        return data
    origin = typing.get_origin(annotation) or annotation
    arguments = typing.get_args(annotation)
    if origin is typing.Annotated:
        return _build(arguments[0], data)
    if origin in (Union, types.UnionType):
        return _build_member(arguments, data)
    if isinstance(origin, type) and dataclasses.is_dataclass(origin):
        hints = typing.get_type_hints(origin, include_extras=True)
        return origin(**{name: _build(hints.get(name, Any), data[name]) for name in data})
    if typing.is_typeddict(origin):
        if not isinstance(data, dict):
            raise ValueError(f"expected {origin.__name__}, got {data!r}")
        hints = typing.get_type_hints(origin)
        return {name: _build(hints.get(name, Any), item) for name, item in data.items()}
    if origin is dict and len(arguments) == 2 and isinstance(data, dict):
        return {key: _build(arguments[1], item) for key, item in data.items()}
    if origin is list and arguments and isinstance(data, list):
        return [_build(arguments[0], item) for item in data]
    if origin is tuple and isinstance(data, list):
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_build(arguments[0], item) for item in data)
        members = arguments if len(arguments) == len(data) else [Any] * len(data)
        return tuple(map(_build, members, data))
    expected = (int, float) if origin is float else origin
    if isinstance(origin, type) and not isinstance(data, expected):
        raise ValueError(f"expected {origin.__name__}, got {data!r}")  # noqa: TRY004  # as above
    return data


def _build_member(members: Iterable[Any], data: Any) -> Any:
    """Return data as the first type of a union that it fits."""
    problems = []
    for member in members:
        if member is type(None):
            if data is None:
                return None
            continue
        try:
            return _build(member, data)
        except (TypeError, ValueError, KeyError) as error:
            problems.append(str(error))
    raise ValueError("; ".join(problems))


def _mentions_struct(annotation: Any) -> bool:
    if hasattr(annotation, "__struct_fields__"):
        return True
    return any(_mentions_struct(argument) for argument in typing.get_args(annotation))
