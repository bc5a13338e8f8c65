"""What the program was told, against what is in the file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from torture.plan import Episode
from torture.tables import slot_after

State: TypeAlias = Mapping[str, tuple[Any, ...]]
"""What a table holds of each producer, or under each key."""


@dataclass
class Told:
    """The acknowledgements of one episode."""

    flushed: dict[str, int] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)
    refused: dict[str, int] = field(default_factory=dict)
    drained: bool = False

    def hear(self, line: str) -> None:
        """Take a line that the program printed."""
        match line.split():
            case ["flushed", name, step]:
                self.flushed[name] = int(step)
            case ["written", name, step]:
                self.written.add(f"{name} {step}")
            case ["refused", name, step, letter]:
                self.refused[f"{name} {step}"] = int(letter)
            case ["drained"]:
                self.drained = True
            case _:
                pass


@dataclass
class File:
    """What the file holds, read in one transaction.

    Attributes:
        slots: by key, the other columns.
        events: by producer, how many there are, how many different ones, the first, the last.
        totals: by producer, the other columns.
        strict: by key, the value.
        letters: by key, the ids of the dead letters and the value in the last one.
        rows: how many rows that was.
        sound: what SQLite's own check found.
    """

    slots: State
    events: State
    totals: State
    strict: State
    letters: State
    rows: int
    sound: str

    @classmethod
    def read(cls, path: Path) -> File:
        """Read it all."""
        with closing(sqlite3.connect(path, timeout=60.0, isolation_level=None)) as raw:
            raw.execute("BEGIN")
            events = (
                "SELECT producer, count(*), count(DISTINCT step), min(step), max(step) "
                "FROM events GROUP BY producer"
            )
            letters: dict[str, tuple[Any, ...]] = {}
            made = raw.execute(
                "SELECT 1 FROM sqlite_schema WHERE name = 'forebay_dead_letters'"
            ).fetchone()
            for letter, entry in raw.execute(
                "SELECT id, entry FROM forebay_dead_letters" if made else "SELECT 1, 2 WHERE FALSE"
            ):
                row = json.loads(entry)["write"]
                ids = letters[row["key"]][0] if row["key"] in letters else []
                letters[row["key"]] = ([*ids, letter], row["value"])
            file = cls(
                slots=_by_first(raw.execute("SELECT key, step, note FROM slots")),
                events=_by_first(raw.execute(events)),
                totals=_by_first(raw.execute("SELECT producer, n, last FROM totals")),
                strict=_by_first(raw.execute("SELECT key, value FROM strict")),
                letters=letters,
                rows=raw.execute("SELECT count(*) FROM events").fetchone()[0],
                sound=raw.execute("PRAGMA integrity_check").fetchone()[0],
            )
        file.rows += sum(map(len, (file.slots, file.totals, file.strict, letters)))
        return file

    def of(self, names: Iterable[str]) -> list[State]:
        """Give what it holds of some producers."""
        wanted = set(names)
        states = (self.slots, self.events, self.totals, self.strict, self.letters)
        return [{k: v for k, v in state.items() if k.split()[0] in wanted} for state in states]


def _by_first(rows: Iterable[tuple[Any, ...]]) -> State:
    return {str(key): tuple(rest) for key, *rest in rows}


class Account:
    """The whole session's: what earlier episodes left must stay as it was.

    One exception is SQLite's own: a transaction that a kill cut off between its write and its end
    may show up later, when the log is read anew because nobody had the file open. Nobody was told
    of it, and it is whole; the next writer's transaction puts an end to that.
    """

    def __init__(self) -> None:
        self._before: dict[str, list[State]] = {}
        self._last: tuple[Episode, Told] | None = None
        self.rows_checked = 0

    def violations(self, episode: Episode, told: Told, file: File) -> Iterator[str]:
        """Tell all that is wrong with the file after an episode."""
        self.rows_checked += file.rows
        if file.sound != "ok":
            yield f"integrity_check: {file.sound}"
        for name, state in self._before.items():
            if file.of([name]) != state and not self._shows_up(name, file):
                yield f"{name}, of an episode before, changed: {state} -> {file.of([name])}"
        names = [f"{episode.number}.{i}" for i in range(episode.producers)]
        for name in names:
            for violation in _of_producer(name, episode, told, file):
                yield f"{name}: {violation}"
            self._before[name] = file.of([name])
        yield from _of_strict(told, file)
        self._last = episode, told

    def _shows_up(self, name: str, file: File) -> bool:
        """Tell whether a change is that of a transaction that the last kill cut off."""
        if self._last is None:
            return False
        episode, told = self._last
        if name.split(".", maxsplit=1)[0] != str(episode.number) or told.drained:
            return False
        self._before[name] = file.of([name])
        return not [*_of_producer(name, episode, told, file), *_of_strict(told, file)]


def _of_producer(name: str, episode: Episode, told: Told, file: File) -> Iterator[str]:
    flushed = told.flushed.get(name, -1)
    # A flush may have returned to a program that was killed before it could tell.
    most = min(flushed + 2 * episode.stride, episode.steps - 1)
    if told.drained and flushed != episode.steps - 1:
        yield f"drained, but flushed {flushed} only"
    count, different, first, last = file.events.get(name, (0, 0, 0, -1))
    if not (count == different == last + 1 and first == 0):
        yield f"{count} events, {different} different, from {first} to {last}"
    if not flushed <= last <= most:
        yield f"events up to {last}, flushed {flushed}, begun {most} at most"
    n, latest = file.totals.get(name, (0, -1))
    if n != latest + 1 or not flushed <= latest <= most:
        yield f"a total of {n} up to {latest}, flushed {flushed}, begun {most} at most"
    slot = file.slots.get(name)
    if slot not in [slot_after(step) for step in range(flushed, most + 1)]:
        yield f"a slot of {slot}, flushed {flushed}, begun {most} at most"


def _of_strict(told: Told, file: File) -> Iterator[str]:
    for key in told.written:
        if key not in file.strict:
            yield f"{key!r} was written and is not there"
    for key, letter in told.refused.items():
        if key not in file.letters or letter not in file.letters[key][0]:
            yield f"{key!r} was refused as dead letter {letter}, which is not there"
    for key, (value,) in file.strict.items():
        if value != int(key.split()[1]) % 5:
            yield f"{key!r} has the value {value}"
    for key, (ids, value) in file.letters.items():
        if key in file.strict or len(ids) != 1 or value != 0:
            yield f"{key!r} has dead letters {ids}, and row {file.strict.get(key)}"
