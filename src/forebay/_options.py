"""What a buffer can be told, and the one rule by which every option is checked.

A field's annotation says all there is to say about an option: its type, its range, the words for
both. Checking, overriding by name and parsing from text all read it there, so that an option is
added by adding a field.
"""

from __future__ import annotations

import difflib
import math
import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import NoneType
from typing import Annotated, Any, Self, TypeGuard, TypeVar, get_args, get_origin, get_type_hints

from forebay._errors import OptionsError


@dataclass(frozen=True)
class Range:
    """The values that an option of one type takes, for people and for the check."""

    words: str
    holds: Callable[[Any], bool]


# NaN is in none of them, since no comparison with it holds.
COUNT = Range("a whole number of at least 1", lambda n: n >= 1)
LIMIT = Range("a whole number of at least 0", lambda n: n >= 0)
PAUSE = Range("a finite number of seconds above 0", lambda s: 0 < s < math.inf)
TIMEOUT = Range("a finite number of seconds of at least 0", lambda s: 0 <= s < math.inf)
INTERVAL = Range("a number of seconds of at least 0, or infinity", lambda s: s >= 0)
FACTOR = Range("a finite number of at least 1", lambda f: 1 <= f < math.inf)
FRACTION = Range("a number from 0 to 1", lambda f: 0 <= f <= 1)


@dataclass(frozen=True)
class Rule:
    """How one option is checked.

    Attributes:
        kind: int, float, or the class of the options that are grouped under this name.
        range: the values of that type which can be used.
        optional: whether None can be used as well.
    """

    kind: type[Any]
    range: Range
    optional: bool

    @property
    def grouped(self) -> type[Options] | None:
        """The class of the options under this name; None where it is a single option."""
        return self.kind if issubclass(self.kind, Options) else None

    def check(self, label: str, value: Any) -> Any:
        """The value as its field's type, or an `OptionsError` that calls it by the label."""
        try:
            return self._usable(value)
        except (ValueError, OverflowError):
            raise refused(label, value, self._expected) from None

    def parse(self, label: str, text: str) -> Any:
        """As `check`, from text: a number as Python writes it, `none` for None."""
        try:
            return self._usable(None if text.strip().lower() == "none" else self.kind(text))
        except (ValueError, OverflowError):
            raise refused(label, text, self._expected) from None

    def _usable(self, value: Any) -> Any:
        # As PEP 484 has it, an int will do for a float. A bool is an int to Python alone.
        accepted = (int, float) if self.kind is float else self.kind
        if isinstance(value, accepted) and not isinstance(value, bool):
            usable = float(value) if self.kind is float else value
            if self.range.holds(usable):
                return usable
        elif value is None and self.optional:
            return None
        raise ValueError

    @property
    def _expected(self) -> str:
        return f"{self.range.words}, or None" if self.optional else self.range.words


@dataclass(frozen=True)
class Options:
    """The base of a group of options: each is checked by its annotation on construction."""

    def __post_init__(self) -> None:
        for name, rule in rules(type(self)).items():
            object.__setattr__(self, name, rule.check(name, getattr(self, name)))

    def override(self, changes: Mapping[str, object]) -> Self:
        """These options with some of them changed.

        Args:
            changes: new values by the options' names. For `retry`, a `RetryPolicy` takes the
                place of the whole policy, a mapping changes what it names:
                `{"batch_size": 500, "retry": {"max_delay": 5}}`.

        Raises:
            OptionsError: a name is unknown, or a value cannot be used.
        """
        return override(self, changes)


AnyOptions = TypeVar("AnyOptions", bound=Options)


def rules(options: type[Options]) -> Mapping[str, Rule]:
    """The rule of each option by its name, in the order of the fields."""
    hints = get_type_hints(options, include_extras=True)
    return {name: _rule(hint) for name, hint in hints.items()}


def _rule(hint: Any) -> Rule:
    optional = NoneType in get_args(hint)
    if optional:
        (hint,) = (part for part in get_args(hint) if part is not NoneType)
    if get_origin(hint) is Annotated:
        kind, values = get_args(hint)
        return Rule(kind, values, optional)
    words = f"a {hint.__name__}, or a mapping of its options"
    return Rule(hint, Range(words, lambda _: True), optional)


def override(options: AnyOptions, changes: object, *, at: tuple[str, ...] = ()) -> AnyOptions:
    """`Options.override`, for changes that stand at a path of names below other options."""
    if isinstance(changes, type(options)):
        return changes
    known = rules(type(options))
    values: dict[str, Any] = {}
    for name, value in checked_names(changes, known, at=at).items():
        path = (*at, name)
        if known[name].grouped and is_mapping(value):
            values[name] = override(getattr(options, name), value, at=path)
        else:
            values[name] = known[name].check(".".join(path), value)
    return replace(options, **values)


def checked_names(
    values: object, known: Iterable[str] | None, *, at: tuple[str, ...] = ()
) -> Mapping[str, object]:
    """The values as a mapping from names that are known, or (None) from names of any sort."""
    if not is_mapping(values):
        raise refused(".".join(at) or "options", values, "a mapping from names")
    for name, value in values.items():
        label = ".".join((*at, str(name)))
        if not isinstance(name, str) or not name:
            raise refused(label, value, f"a name, not {name!r}")
        if known is not None and name not in known:
            raise refused(label, value, one_of(name, known))
    return values


def is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Whether the value is a mapping, whatever is in it."""
    return isinstance(value, Mapping)


def one_of(name: str, known: Iterable[str]) -> str:
    """The words for a name that is none of the known ones, with the closest of them."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"one of the names {', '.join(known)}{hint}"


def refused(label: str, value: object, expected: str) -> OptionsError:
    """The error of a value that cannot be used: what it is called, what it is, what it is not."""
    return OptionsError(f"{label} = {reprlib.repr(value)}: expected {expected}")


@dataclass(frozen=True, kw_only=True)
class RetryPolicy(Options):
    """How long to wait between the attempts of a flush that another attempt can mend.

    The wait grows by a factor from attempt to attempt, up to a limit, and a part of it is random,
    so that programs which wait for one lock do not come back for it together. This is capped
    exponential backoff with jitter, after Marc Brooker, "Exponential Backoff And Jitter",
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/: the `jitter` of 0.5
    is its "equal jitter", 1 its "full jitter".

    Attributes:
        initial_delay: the wait after the first attempt, in seconds; above 0.
        multiplier: the factor from one wait to the next; at least 1.
        max_delay: the longest wait, in seconds; above 0. It holds from the first wait on, so it
            may be less than `initial_delay`.
        jitter: the part of each wait that is random, from 0 (none: every wait is exact) to 1.
        max_attempts: how often one batch is tried in all, the first time included; at least 1,
            which is not to retry at all. None retries without end.

    Raises:
        OptionsError: a value is of the wrong type or out of its range.
    """

    initial_delay: Annotated[float, PAUSE] = 0.05
    multiplier: Annotated[float, FACTOR] = 2.0
    max_delay: Annotated[float, PAUSE] = 2.0
    jitter: Annotated[float, FRACTION] = 0.5
    max_attempts: Annotated[int, COUNT] | None = None

    def delay(self, attempt: int, random: float) -> float:
        """How long to wait after a failed attempt.

        Args:
            attempt: which attempt failed, counted from 1.
            random: where in the random part of the wait to fall, from 0 (its end, the whole wait)
                up to but not including 1, as `random.random()` draws it.

        Returns:
            The wait in seconds: more than 0 and at most `max_delay`.

        Raises:
            ValueError: an argument is out of its range.
        """
        if attempt < 1:
            raise ValueError(f"attempt = {attempt!r}: expected a count from 1 on")
        if not 0 <= random < 1:
            raise ValueError(f"random = {random!r}: expected at least 0 and less than 1")
        try:
            full = min(self.max_delay, self.initial_delay * self.multiplier ** (attempt - 1))
        except OverflowError:
            full = self.max_delay
        return full * (1 - self.jitter * random)


@dataclass(frozen=True, kw_only=True)
class BufferOptions(Options):
    """How much a buffer holds, when it flushes, and what it does when a flush fails.

    Attributes:
        capacity: how many entries may be accepted and not yet settled, those in flight included;
            at least 1. When so many are, `enqueue` waits.
        capacity_bytes: the same bound in bytes of the entries' values; at least 1, or None for no
            such bound.
        batch_size: the most rows of one transaction; at least 1. Of `batch_size` and `capacity`
            the smaller counts: see `effective_batch_size`.
        flush_interval: how long the first pending entry waits for others to share its
            transaction, in seconds; at least 0. With `math.inf`, a flush happens only by size, on
            request, or on drain.
        drain_timeout: how long a closing buffer may take to settle what it has accepted, in
            seconds; at least 0, and finite.
        dead_letters_per_minute: how many entries that the table refuses may go to the dead
            letters; one more stops the buffer, since a flood of them is a fault of the program.
            At least 0, or None for no limit.
        retry: the waits between attempts.

    Raises:
        OptionsError: a value is of the wrong type or out of its range.
    """

    capacity: Annotated[int, COUNT] = 100_000
    capacity_bytes: Annotated[int, COUNT] | None = None
    batch_size: Annotated[int, COUNT] = 20_000
    flush_interval: Annotated[float, INTERVAL] = 0.2
    drain_timeout: Annotated[float, TIMEOUT] = 30.0
    dead_letters_per_minute: Annotated[int, LIMIT] | None = 1_000
    retry: RetryPolicy = RetryPolicy()

    @property
    def effective_batch_size(self) -> int:
        """The number of pending rows at which a flush is due by size.

        This is `batch_size`, or `capacity` where that is less: a buffer never holds more, so a
        larger batch could not fill. A small `capacity` thus needs no `batch_size` beside it.
        """
        return min(self.batch_size, self.capacity)
