"""Options from outside the program: a mapping, a TOML file, the environment.

All three are one thing, a mapping of what was named, in layers. A layer above replaces what it
names and leaves the rest, and options are made of the mapping only when the layers are together;
so a value that the environment sets for all buffers reaches those which the file below mentions
without that value.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from forebay._errors import OptionsError
from forebay._options import (
    BufferOptions,
    Options,
    Range,
    Rule,
    checked_names,
    is_mapping,
    one_of,
    override,
    refused,
    rules,
)

_BUFFERS = "buffers"
_WHOLE = Rule(BufferOptions, Range("a BufferOptions", lambda _: True), optional=False)


@dataclass(frozen=True)
class Settings:
    """The options of all buffers, and those of single buffers.

    `open_buffers(store, *tables, options=settings.options, overrides=settings.overrides)` takes
    them. Settings made from a mapping, a file or the environment remember which options were
    named for which buffer, so that `from_env` can be laid over them. An override that is given
    here as a whole `BufferOptions` names every option.

    Attributes:
        options: for every buffer without an override.
        overrides: for single buffers, by the names of their tables.

    Raises:
        OptionsError: a value is of the wrong type.
    """

    options: BufferOptions = field(default_factory=BufferOptions)
    overrides: Mapping[str, BufferOptions] = field(default_factory=dict[str, BufferOptions])
    _named: Mapping[str, object] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _WHOLE.check("options", self.options)
        for name, options in checked_names(self.overrides, None, at=("overrides",)).items():
            _WHOLE.check(f"overrides.{name}", options)
        object.__setattr__(self, "overrides", dict(self.overrides))
        named = {**_plain(self.options), _BUFFERS: _plain(self.overrides)}
        object.__setattr__(self, "_named", named)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, object]) -> Self:
        """Settings from a mapping, as JSON or TOML would hold them.

        Args:
            mapping: values by the names of the options of `BufferOptions`, and under `buffers` a
                mapping of the same kind for each table that differs. What such a mapping does not
                name is as for all buffers:
                `{"flush_interval": 0.1, "buffers": {"key_values": {"flush_interval": 0.05}}}`.

        Raises:
            OptionsError: a name is unknown, or a value cannot be used. Numbers are not read from
                strings here.
        """
        known = (*rules(BufferOptions), _BUFFERS)
        for_all = dict(checked_names(mapping, known))
        buffers = checked_names(for_all.pop(_BUFFERS, {}), None, at=(_BUFFERS,))
        options = override(BufferOptions(), for_all)
        settings = cls(
            options,
            {name: override(options, part, at=(_BUFFERS, name)) for name, part in buffers.items()},
        )
        object.__setattr__(settings, "_named", _plain(mapping))
        return settings

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str], table: str = "forebay") -> Self:
        """Settings from a table of a TOML file.

        The table holds what `from_mapping` takes; those of single buffers are tables below it,
        such as `[forebay.buffers.key_values]`. TOML has no null: the string `"none"` stands for
        None.

        The file is read at once, in this thread: call this before `trio.run`.

        Args:
            path: the file.
            table: the table's name, each dot one level down: `tool.forebay` for a
                `pyproject.toml`.

        Raises:
            OptionsError: the file is not TOML, the table is not in it, a name is unknown, or a
                value cannot be used. The message begins with the path.
            OSError: the file cannot be read.
        """
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - it takes every kind of path
                document = tomllib.load(file)
            return cls.from_mapping(_with_none(_table(document, table)))
        except (OptionsError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise OptionsError(f"{os.fspath(path)}: {error}") from error

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        base: Settings | None = None,
        prefix: str = "FOREBAY_",
    ) -> Self:
        """Settings from the environment, alone or laid over others.

        A variable is named for its option in capitals: `FOREBAY_FLUSH_INTERVAL=0.1`; two
        underscores go one level down: `FOREBAY_RETRY__MAX_DELAY=5`,
        `FOREBAY_BUFFERS__KEY_VALUES__FLUSH_INTERVAL=0.05`. `none` stands for None, `inf` for
        infinity.

        A buffer's name is matched with those that `base` overrides without regard to case, and is
        in lower case where none of them fits. So a table whose name has capitals can be named
        here only when `base` names it too.

        A variable for all buffers reaches every buffer for which `base` does not name that option
        itself.

        Args:
            environ: the variables; None for `os.environ`.
            base: the settings below, say those of a TOML file; None for the defaults.
            prefix: what the names of the variables begin with. Every variable that begins so must
                be the name of an option.

        Raises:
            OptionsError: a variable is unknown, names what another one names, or its text cannot
                be used. The message bears the variable's name.
        """
        if not prefix:
            raise refused("prefix", prefix, "at least one character")
        if environ is None:
            environ = os.environ
        below: Mapping[str, Any] = {} if base is None else base._named  # noqa: SLF001 - our own
        above = _from_variables(environ, prefix, below.get(_BUFFERS, {}))
        return cls.from_mapping(_layered(below, above))


def _plain(value: Any) -> Any:
    """A copy in dictionaries only; options given whole name each of theirs."""
    if isinstance(value, Options):
        value = asdict(value)
    if is_mapping(value):
        return {name: _plain(part) for name, part in value.items()}
    return value


def _table(document: dict[str, Any], table: str) -> dict[str, Any]:
    found = document
    for level in table.split("."):
        if level not in found:
            expected = one_of(level, found) if found else "a table of that name"
            raise OptionsError(f"no table [{table}]: expected {expected}")
        if not is_mapping(found[level]):
            raise refused(table, found[level], "a table")
        found = found[level]
    return found


def _with_none(value: Any) -> Any:
    if is_mapping(value):
        return {name: _with_none(part) for name, part in value.items()}
    return None if value == "none" else value


def _layered(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        if is_mapping(old) and is_mapping(value):
            value = _layered(old, value)  # noqa: PLW2901 - the one value of the two layers
        merged[name] = value
    return merged


def _from_variables(
    environ: Mapping[str, str], prefix: str, buffers: Iterable[str]
) -> dict[str, Any]:
    """What the variables name, as the mapping that `Settings.from_mapping` takes."""
    options = {"__".join(path).upper(): (path, rule) for path, rule in _single(BufferOptions)}
    # As little as possible is the buffer's name and the rest the option's. A table's name may
    # hold two underscores in a row.
    form = re.compile(rf"(?:BUFFERS__(.+?)__)?({'|'.join(options)})", re.DOTALL)
    mapping: dict[str, Any] = {}
    named_by: dict[tuple[str, ...], str] = {}
    for variable, text in environ.items():
        if not variable.startswith(prefix):
            continue
        match = form.fullmatch(variable, len(prefix))
        if match is None:
            raise OptionsError(_unknown_variable(variable, prefix, options))
        path, rule = options[match[2]]
        value = rule.parse(variable, text)
        for above in _places(match[1], buffers):
            place = (*above, *path)
            if place in named_by:
                raise refused(
                    variable, text, f"no second variable for the option of {named_by[place]}"
                )
            named_by[place] = variable
            mapping = _layered(mapping, _nested(place, value))
    return mapping


def _single(group: type[Options]) -> Iterable[tuple[tuple[str, ...], Rule]]:
    """The path and the rule of every option that is not a group itself."""
    for name, rule in rules(group).items():
        if rule.grouped is None:
            yield (name,), rule
        else:
            yield from (((name, *path), below) for path, below in _single(rule.grouped))


def _places(buffer: str | None, buffers: Iterable[str]) -> list[tuple[str, ...]]:
    """Where the options stand which a variable names for a buffer, or (None) for all."""
    if buffer is None:
        return [()]
    fitting = [name for name in buffers if name.lower() == buffer.lower()]
    return [(_BUFFERS, name) for name in fitting or [buffer.lower()]]


def _nested(path: tuple[str, ...], value: object) -> dict[str, Any]:
    for name in reversed(path[1:]):
        value = {name: value}
    return {path[0]: value}


def _unknown_variable(variable: str, prefix: str, options: Iterable[str]) -> str:
    # Its value is left out: what is not an option of ours may be somebody's secret.
    buffer = re.match("BUFFERS__.+?__", variable.removeprefix(prefix))
    of_buffer = buffer[0] if buffer else ""
    expected = one_of(variable, [f"{prefix}{of_buffer}{option}" for option in options])
    return f"{variable}: expected {expected}"
