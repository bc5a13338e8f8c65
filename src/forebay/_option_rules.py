"""How options are checked, overridden by name and parsed from text.

The annotation of a field states everything about its option: the type, the valid range and the
words for both. To add an option, add a field.
"""

from __future__ import annotations

import difflib
import math
import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType, NoneType
from typing import (
    Annotated,
    Any,
    Literal,
    Self,
    TypeGuard,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

from forebay._errors import OptionsError


@dataclass(frozen=True)
class OptionRange:
    """The valid values of an option. It annotates the option's field, next to the type.

    NaN is in no range that is defined by comparisons, since every comparison with NaN is false.

    Attributes:
        description: the valid values in words, such as "a number from 0 to 1". An error
            message contains them after "expected".
        contains: takes a value of the option's type and returns whether it is valid.
    """

    description: str
    contains: Callable[[Any], bool]


@dataclass(frozen=True)
class Options:
    """The base class of a group of options, which are checked on construction.

    A subclass is a frozen dataclass. The annotation of each field is `Annotated[T, OptionRange]`,
    or a union of it and None, or another subclass of `Options` for a nested group. T is int, float
    or a `Literal` of names.

    Example:
        >>> from dataclasses import dataclass
        >>> from typing import Annotated
        >>> from forebay import OptionRange, Options
        >>> port = OptionRange("a port from 1 to 65535", lambda n: 1 <= n <= 65535)
        >>> @dataclass(frozen=True, kw_only=True)
        ... class ServerOptions(Options):
        ...     port: Annotated[int, port] = 8080
        >>> ServerOptions(port=0)
        Traceback (most recent call last):
        forebay.OptionsError: port = 0: expected a port from 1 to 65535
    """

    def __post_init__(self) -> None:
        """Check each value by its field's annotation, and convert an int for a float.

        Raises:
            OptionsError: a value has the wrong type or is out of its range.
        """
        for name, rule in rules_of(type(self)).items():
            object.__setattr__(self, name, rule.validate(name, getattr(self, name)))

    def override(self, changes: Mapping[str, object]) -> Self:
        """Return a copy of these options with some of them changed.

        Args:
            changes: the new values by option name. For a nested group, an instance replaces the
                whole group, and a mapping changes only the options that it names:
                `{"batch_size": 500, "retry": {"max_delay": 5}}`.

        Raises:
            OptionsError: a name is unknown, or a value is invalid.
        """
        return override(self, changes)


AnyOptions = TypeVar("AnyOptions", bound=Options)


@dataclass(frozen=True)
class Rule:
    """The rule by which one option is checked.

    Attributes:
        kind: the type of the value: int, float, str for one of several names, or the class of a
            nested group of options.
        range: the valid values of this type.
        optional: whether None is also valid.
    """

    kind: type[Any]
    range: OptionRange
    optional: bool

    @property
    def group(self) -> type[Options] | None:
        """The class of the nested group of options; None for a single option."""
        return self.kind if issubclass(self.kind, Options) else None

    def validate(self, label: str, value: Any) -> Any:
        """Return the value as the type of its field.

        Args:
            label: the name of the option in the error message.
            value: the value.

        Raises:
            OptionsError: the value is invalid.
        """
        try:
            return self._convert(value)
        except (ValueError, OverflowError):
            raise option_error(label, value, self._expected) from None

    def parse(self, label: str, text: str) -> Any:
        """Return the value that a text stands for: a number in Python's syntax, a name, or `none`.

        Args:
            label: the name of the option in the error message.
            text: the text.

        Raises:
            OptionsError: the text is invalid.
        """
        parse = parse_float if self.kind is float else self.kind
        try:
            stripped = text.strip()
            return self._convert(None if stripped.lower() == "none" else parse(stripped))
        except (ValueError, OverflowError):
            raise option_error(label, text, self._expected) from None

    def _convert(self, value: Any) -> Any:
        # As in PEP 484, an int is accepted for a float. A bool is an int only to Python.
        accepted = (int, float) if self.kind is float else self.kind
        if isinstance(value, accepted) and not isinstance(value, bool):
            converted = float(value) if self.kind is float else value
            if self.range.contains(converted):
                return converted
        elif value is None and self.optional:
            return None
        raise ValueError

    @property
    def _expected(self) -> str:
        return f"{self.range.description}, or None" if self.optional else self.range.description


# By class, since each object checks its options, and evaluating the annotations takes 0.2 ms.
_RULES: dict[type[Options], Mapping[str, Rule]] = {}


def rules_of(options: type[Options]) -> Mapping[str, Rule]:
    """Return the rule of each option by its name, in the order of the fields.

    Args:
        options: the class of the options.
    """
    rules = _RULES.get(options)
    if rules is None:
        hints = get_type_hints(options, include_extras=True)
        rules = MappingProxyType({name: _rule(hint) for name, hint in hints.items()})
        _RULES[options] = rules
    return rules


def _rule(hint: Any) -> Rule:
    optional = NoneType in get_args(hint)
    if optional:
        (hint,) = (part for part in get_args(hint) if part is not NoneType)
    if get_origin(hint) is Annotated:
        kind, values = get_args(hint)
        if get_origin(kind) is Literal:
            kind = str
        return Rule(kind, values, optional)
    description = f"a {hint.__name__}, or a mapping of its options"
    return Rule(hint, OptionRange(description, lambda _: True), optional)


def override(options: AnyOptions, changes: object, *, at: tuple[str, ...] = ()) -> AnyOptions:
    """Return a copy of options with some of them changed, as `Options.override` does.

    Args:
        options: the options.
        changes: a mapping of new values by option name, or options that replace all.
        at: the names of the groups that contain the options, for the error message.

    Raises:
        OptionsError: a name is unknown, or a value is invalid.
    """
    if isinstance(changes, type(options)):
        return changes
    rules = rules_of(type(options))
    values: dict[str, Any] = {}
    for name, value in check_names(changes, rules, at=at).items():
        path = (*at, name)
        if rules[name].group and is_mapping(value):
            values[name] = override(getattr(options, name), value, at=path)
        else:
            values[name] = rules[name].validate(".".join(path), value)
    return replace(options, **values)


def check_names(
    values: object, known: Iterable[str] | None, *, at: tuple[str, ...] = ()
) -> Mapping[str, object]:
    """Return a mapping after a check of its names.

    Args:
        values: the mapping.
        known: the valid names; None if every non-empty text is valid.
        at: the names of the groups that contain the mapping, for the error message.

    Raises:
        OptionsError: `values` is not a mapping, or a name is invalid.
    """
    if not is_mapping(values):
        raise option_error(".".join(at) or "options", values, "a mapping with names as its keys")
    for name, value in values.items():
        label = ".".join((*at, _readable(name)))
        if not isinstance(name, str) or not name:
            raise option_error(label, value, f"a name as the key, not {_describe(name)}")
        if known is not None and name not in known:
            raise option_error(label, value, describe_names(name, known))
    return values


def is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Return whether a value is a mapping, with keys and values of any type."""
    return isinstance(value, Mapping)


def describe_names(name: str, known: Iterable[str]) -> str:
    """Return the valid names for an error message, with the one that is closest to a wrong name.

    Args:
        name: the wrong name.
        known: the valid names.
    """
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"one of the names {', '.join(known)}{hint}"


def parse_float(text: str) -> float:
    """Return the float of a text.

    Raises:
        ValueError: the text is not a number, or it is a finite number that is too large for a
            float. Python would return infinity, which would switch an option off.
    """
    number = float(text)
    if math.isinf(number) and "inf" not in text.lower():
        raise ValueError(f"the number {reprlib.repr(text)} is too large")
    return number


def option_error(label: str, value: object, expected: str) -> OptionsError:
    """Return the error for an invalid option.

    Args:
        label: the name of the option.
        value: its value.
        expected: the valid values, in words.
    """
    return OptionsError(f"{label} = {_describe(value)}: expected {expected}")


def _readable(name: object) -> str:
    """Return a name as it is, or its description if it is too long or does not fit in a line."""
    if isinstance(name, str) and name.isprintable() and len(name) <= _MAX_NAME:
        return name
    return _describe(name)


class _ShortRepr(reprlib.Repr):
    """`reprlib.Repr`, but not with an error for an integer of more than 4,300 digits."""

    def repr_int(self, x: int, level: int) -> str:
        try:
            return super().repr_int(x, level)
        except ValueError:
            return f"<an integer of {x.bit_length():,} bits>"


_describe = _ShortRepr().repr

_MAX_NAME = 100
"""The length of a name, in characters, up to which a message contains it unchanged."""
