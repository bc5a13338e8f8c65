"""Options from outside the program: from a mapping, a TOML file or the environment.

Each source becomes a mapping that names only some options. Mappings are layered: a higher layer
replaces the options that it names and keeps the others. Options are made of the mapping only after
all layers are merged. So a value that the environment sets for all buffers also reaches a buffer
that the TOML file mentions without naming this option.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from forebay._errors import OptionsError
from forebay._option_rules import (
    OptionRange,
    Options,
    Rule,
    check_names,
    describe_names,
    is_mapping,
    option_error,
    override,
    rules_of,
)
from forebay._options import BufferOptions
from forebay._toml_file import read_toml

_BUFFERS = "buffers"
_BUFFER_OPTIONS = Rule(
    BufferOptions, OptionRange("a BufferOptions", lambda _: True), optional=False
)


@dataclass(frozen=True)
class Settings:
    """The options of all buffers, and the different options of some buffers.

    Pass them to `open_buffers(store, *tables, options=settings.options,
    overrides=settings.overrides)`. Settings from a mapping, a file or the environment remember
    which options were named for which buffer, so that `from_env` can change single options. A
    `BufferOptions` in `overrides` names every option.

    Attributes:
        options: the options of every buffer without an override.
        overrides: the options of single buffers, by the names of their tables.

    Raises:
        OptionsError: a value has the wrong type.
    """

    options: BufferOptions = field(default_factory=BufferOptions)
    overrides: Mapping[str, BufferOptions] = field(default_factory=dict[str, BufferOptions])
    _named: Mapping[str, object] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _BUFFER_OPTIONS.validate("options", self.options)
        for name, options in check_names(self.overrides, None, at=("overrides",)).items():
            _BUFFER_OPTIONS.validate(f"overrides.{name}", options)
        object.__setattr__(self, "overrides", dict(self.overrides))
        named = {**_to_dicts(self.options), _BUFFERS: _to_dicts(self.overrides)}
        object.__setattr__(self, "_named", named)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, object]) -> Self:
        """Return the settings of a mapping, such as one from JSON or TOML.

        Args:
            mapping: values by the names of the options of `BufferOptions`. The key `buffers` may
                have a mapping of the same kind per table; options that it does not name are those
                of all buffers:
                `{"flush_interval": 0.1, "buffers": {"key_values": {"flush_interval": 0.05}}}`.

        Raises:
            OptionsError: a name is unknown, or a value is invalid. A number must not be a text.
        """
        known = (*rules_of(BufferOptions), _BUFFERS)
        for_all = dict(check_names(mapping, known))
        buffers = check_names(for_all.pop(_BUFFERS, {}), None, at=(_BUFFERS,))
        options = override(BufferOptions(), for_all)
        settings = cls(
            options,
            {name: override(options, part, at=(_BUFFERS, name)) for name, part in buffers.items()},
        )
        object.__setattr__(settings, "_named", _to_dicts(mapping))
        return settings

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str], table: str = "forebay") -> Self:
        """Return the settings of a table in a TOML file.

        The table has the form that `from_mapping` expects. The options of a single buffer are in
        a subtable, such as `[forebay.buffers.key_values]`. TOML has no null: the text `"none"`
        means None.

        The file is read in the calling thread, so call this before `trio.run`.

        Args:
            path: the file.
            table: the name of the table, with dots between its levels: `tool.forebay` for a
                `pyproject.toml`.

        Raises:
            OptionsError: the path is not that of a regular file, the file is not TOML or has more
                than 1 MiB, the table is missing, a name is unknown, or a value is invalid. The
                message begins with the path.
            OSError: the file cannot be read.
        """
        name = os.fsdecode(path)
        label = name if name.isprintable() else ascii(name)
        try:
            return cls.from_mapping(_replace_none(_find_table(read_toml(path), table)))
        except OptionsError as error:
            raise OptionsError(f"{label}: {error}") from error
        except RecursionError:
            raise OptionsError(f"{label}: the values are nested too deeply") from None

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        base: Settings | None = None,
        prefix: str = "FOREBAY_",
    ) -> Self:
        """Return the settings of environment variables, alone or on top of other settings.

        A variable has the name of its option in capital letters: `FOREBAY_FLUSH_INTERVAL=0.1`.
        Two underscores separate levels: `FOREBAY_RETRY__MAX_DELAY=5`,
        `FOREBAY_BUFFERS__KEY_VALUES__FLUSH_INTERVAL=0.05`. The text `none` means None, `inf` means
        infinity.

        The name of a buffer in a variable matches the names in `base.overrides` without regard to
        case. If none matches, the name is converted to lower case. So a variable can set options
        of a table whose name has capital letters only if `base` names this table.

        A variable for all buffers changes every buffer for which `base` does not name that option.

        Args:
            environ: the variables; None means `os.environ`.
            base: the settings that the variables change, such as those of a TOML file; None means
                the defaults.
            prefix: how the names of the variables begin. Every variable with this prefix must be
                an option.

        Raises:
            OptionsError: a variable is unknown or invalid, or two variables set the same option.
                The message contains the name of the variable.
        """
        if not prefix:
            raise option_error("prefix", prefix, "at least one character")
        if environ is None:
            environ = os.environ
        lower: Mapping[str, Any] = {} if base is None else base._named  # noqa: SLF001  # same class
        higher = _parse_variables(environ, prefix, lower.get(_BUFFERS, {}))
        return cls.from_mapping(_merge_layers(lower, higher))


def _to_dicts(value: Any) -> Any:
    """Return a deep copy in which every mapping, and every group of options, is a dictionary."""
    if isinstance(value, Options):
        value = asdict(value)
    if is_mapping(value):
        return {name: _to_dicts(part) for name, part in value.items()}
    return value


def _find_table(document: dict[str, Any], table: str) -> dict[str, Any]:
    found = document
    for level in table.split("."):
        if level not in found:
            expected = describe_names(level, found) if found else "a table of that name"
            raise OptionsError(f"no table [{table}]: expected {expected}")
        if not is_mapping(found[level]):
            raise option_error(table, found[level], "a table")
        found = found[level]
    return found


def _replace_none(value: Any) -> Any:
    """Return a copy of a TOML value with None for every text `none`."""
    if is_mapping(value):
        return {name: _replace_none(part) for name, part in value.items()}
    return None if value == "none" else value


def _merge_layers(lower: Mapping[str, Any], higher: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(lower)
    for name, value in higher.items():
        old = merged.get(name)
        if is_mapping(old) and is_mapping(value):
            merged[name] = _merge_layers(old, value)
        else:
            merged[name] = value
    return merged


def _parse_variables(
    environ: Mapping[str, str], prefix: str, buffers: Iterable[str]
) -> dict[str, Any]:
    """Return the options that the variables name, as `Settings.from_mapping` expects them.

    Args:
        environ: the variables.
        prefix: how the names of the variables begin.
        buffers: the names of the buffers that the lower layer names.
    """
    options = {
        "__".join(path).upper(): (path, rule) for path, rule in _single_options(BufferOptions)
    }
    # The name of a table may contain two underscores, so its match is the shortest one that
    # leaves the name of an option.
    pattern = re.compile(rf"(?:BUFFERS__(.+?)__)?({'|'.join(options)})", re.DOTALL)
    mapping: dict[str, Any] = {}
    set_by: dict[tuple[str, ...], str] = {}
    for variable, text in environ.items():
        if not variable.startswith(prefix):
            continue
        match = pattern.fullmatch(variable, len(prefix))
        if match is None:
            raise OptionsError(_unknown_variable(variable, prefix, options))
        path, rule = options[match[2]]
        value = rule.parse(variable, text)
        for group in _groups_of(match[1], buffers):
            full_path = (*group, *path)
            if full_path in set_by:
                raise OptionsError(
                    f"{variable} and {set_by[full_path]} set the same option; unset one of them"
                )
            set_by[full_path] = variable
            mapping = _merge_layers(mapping, _nest(full_path, value))
    return mapping


def _single_options(group: type[Options]) -> Iterable[tuple[tuple[str, ...], Rule]]:
    """Yield the path and the rule of every option in a group and its nested groups."""
    for name, rule in rules_of(group).items():
        if rule.group is None:
            yield (name,), rule
        else:
            yield from (((name, *path), nested) for path, nested in _single_options(rule.group))


def _groups_of(buffer: str | None, buffers: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the paths of the mappings that have the options of a buffer; None means all buffers.

    There are several if the names of several buffers differ only in case.
    """
    if buffer is None:
        return [()]
    matching = [name for name in buffers if name.lower() == buffer.lower()]
    return [(_BUFFERS, name) for name in matching or [buffer.lower()]]


def _nest(path: tuple[str, ...], value: object) -> dict[str, Any]:
    for name in reversed(path[1:]):
        value = {name: value}
    return {path[0]: value}


def _unknown_variable(variable: str, prefix: str, options: Iterable[str]) -> str:
    # The message omits the value: a variable that is not an option may contain a secret.
    buffer = re.match("BUFFERS__.+?__", variable.removeprefix(prefix))
    of_buffer = buffer[0] if buffer else ""
    expected = describe_names(variable, [f"{prefix}{of_buffer}{option}" for option in options])
    return f"{variable}: expected {expected}"
