"""Compare the acknowledgements that the program received with the contents of the database."""

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
"""The contents of a table, by producer or by key."""


@dataclass
class Acknowledgements:
    """The acknowledgements that the program received in one episode.

    Attributes:
        flushed: the last step that was flushed, by producer.
        written: the keys that `Buffer.write` wrote.
        refused: the id of the dead letter by the key that the table refused.
        drained: whether the program drained its buffers.
        unaccounted: what the program printed if an error did not name each pending entry.
        misread: what the program printed if a row that it read was not the one that it wrote.
        reads: the number of rows that the program read and that were right.
    """

    flushed: dict[str, int] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)
    refused: dict[str, int] = field(default_factory=dict)
    drained: bool = False
    unaccounted: list[str] = field(default_factory=list)
    misread: list[str] = field(default_factory=list)
    reads: int = 0

    def record(self, line: str) -> None:
        """Record an acknowledgement from a line that the program printed."""
        match line.split():
            case ["flushed", name, step]:
                self.flushed[name] = int(step)
            case ["written", name, step]:
                self.written.add(f"{name} {step}")
            case ["refused", name, step, letter]:
                self.refused[f"{name} {step}"] = int(letter)
            case ["drained"]:
                self.drained = True
            case ["unaccounted", pending, named]:
                self.unaccounted.append(f"{pending} entries were pending, the errors name {named}")
            case ["misread", *words]:
                self.misread.append(f"read by key: {' '.join(words)}")
            case ["read", _name, rows]:
                self.reads += int(rows)
            case _:
                pass


@dataclass
class Contents:
    """The contents of the database, read in one transaction.

    Attributes:
        slots: the other columns, by key.
        events: the number of events, of different events, the first and the last, by producer.
        totals: the other columns, by producer.
        strict: the value, by key.
        letters: the ids of the dead letters and the value in the last one, by key.
        rows: the number of rows read.
        integrity: the result of `PRAGMA integrity_check`.
    """

    slots: State
    events: State
    totals: State
    strict: State
    letters: State
    rows: int
    integrity: str

    @classmethod
    def read(cls, path: Path) -> Contents:
        """Read the database at a path."""
        with closing(sqlite3.connect(path, timeout=60.0, isolation_level=None)) as raw:
            raw.execute("BEGIN")
            events = (
                "SELECT producer, count(*), count(DISTINCT step), min(step), max(step) "
                "FROM events GROUP BY producer"
            )
            letters: dict[str, tuple[Any, ...]] = {}
            exists = raw.execute(
                "SELECT 1 FROM sqlite_schema WHERE name = 'forebay_dead_letters'"
            ).fetchone()
            for letter, entry in raw.execute(
                "SELECT id, entry FROM forebay_dead_letters"
                if exists
                else "SELECT 1, 2 WHERE FALSE"
            ):
                row = json.loads(entry)["write"]
                ids = letters[row["key"]][0] if row["key"] in letters else []
                letters[row["key"]] = ([*ids, letter], row["value"])
            contents = cls(
                slots=_by_first_column(raw.execute("SELECT key, step, note FROM slots")),
                events=_by_first_column(raw.execute(events)),
                totals=_by_first_column(raw.execute("SELECT producer, n, last FROM totals")),
                strict=_by_first_column(raw.execute("SELECT key, value FROM strict")),
                letters=letters,
                rows=raw.execute("SELECT count(*) FROM events").fetchone()[0],
                integrity=raw.execute("PRAGMA integrity_check").fetchone()[0],
            )
        tables = (contents.slots, contents.totals, contents.strict, letters)
        contents.rows += sum(map(len, tables))
        return contents

    def of_producers(self, names: Iterable[str]) -> list[State]:
        """Return the contents of each table that these producers wrote."""
        wanted = set(names)
        states = (self.slots, self.events, self.totals, self.strict, self.letters)
        return [{k: v for k, v in state.items() if k.split()[0] in wanted} for state in states]


def _by_first_column(rows: Iterable[tuple[Any, ...]]) -> State:
    return {str(key): tuple(rest) for key, *rest in rows}


class Checker:
    """Check the database after each episode. Rows of earlier episodes must stay unchanged.

    SQLite allows one exception: a transaction that a kill interrupted after its last write to the
    log, but before its end, may appear later, when the log is read again because no process had
    the database open. It was not acknowledged, and it is complete. Once another process has
    written a transaction, it cannot appear any more.
    """

    def __init__(self) -> None:
        self._before: dict[str, list[State]] = {}
        self._last: tuple[Episode, Acknowledgements] | None = None
        self.rows_checked = 0

    def violations(
        self, episode: Episode, acknowledged: Acknowledgements, contents: Contents
    ) -> Iterator[str]:
        """Yield every violation in the database after an episode."""
        self.rows_checked += contents.rows
        yield from acknowledged.unaccounted
        yield from acknowledged.misread
        if contents.integrity != "ok":
            yield f"integrity_check: {contents.integrity}"
        for name, state in self._before.items():
            now = contents.of_producers([name])
            if now != state and not self._appeared_late(name, contents):
                yield f"{name}, of an earlier episode, changed: {state} -> {now}"
        names = [f"{episode.number}.{i}" for i in range(episode.producers)]
        for name in names:
            for violation in _check_producer(name, episode, acknowledged, contents):
                yield f"{name}: {violation}"
            self._before[name] = contents.of_producers([name])
        yield from _check_strict(acknowledged, contents)
        self._last = episode, acknowledged

    def _appeared_late(self, name: str, contents: Contents) -> bool:
        """Return whether a change is a transaction that the last kill interrupted."""
        if self._last is None:
            return False
        episode, acknowledged = self._last
        if name.split(".", maxsplit=1)[0] != str(episode.number) or acknowledged.drained:
            return False
        self._before[name] = contents.of_producers([name])
        return not [
            *_check_producer(name, episode, acknowledged, contents),
            *_check_strict(acknowledged, contents),
        ]


def _check_producer(
    name: str, episode: Episode, acknowledged: Acknowledgements, contents: Contents
) -> Iterator[str]:
    flushed = acknowledged.flushed.get(name, -1)
    # The program may have been killed after a flush, before it could print the acknowledgement.
    most = min(flushed + 2 * episode.stride, episode.steps - 1)
    if acknowledged.drained and flushed != episode.steps - 1:
        yield f"drained, but step {flushed} was the last one flushed"
    count, different, first, last = contents.events.get(name, (0, 0, 0, -1))
    if not (count == different == last + 1 and first == 0):
        yield f"{count} events ({different} different) for the steps {first} to {last}"
    if not flushed <= last <= most:
        yield f"events up to step {last}, expected {flushed} to {most}"
    n, latest = contents.totals.get(name, (0, -1))
    if n != latest + 1 or not flushed <= latest <= most:
        yield f"a total of {n} up to step {latest}, expected {flushed} to {most}"
    slot = contents.slots.get(name)
    if slot not in [slot_after(step) for step in range(flushed, most + 1)]:
        yield f"the slot is {slot}, expected its state after a step from {flushed} to {most}"


def _check_strict(acknowledged: Acknowledgements, contents: Contents) -> Iterator[str]:
    for key in acknowledged.written:
        if key not in contents.strict:
            yield f"{key!r} was written but is missing"
    for key, letter in acknowledged.refused.items():
        if key not in contents.letters or letter not in contents.letters[key][0]:
            yield f"{key!r} was refused, but dead letter {letter} is missing"
    for key, (value,) in contents.strict.items():
        if value != int(key.split()[1]) % 5:
            yield f"{key!r} has the wrong value {value}"
    for key, (ids, value) in contents.letters.items():
        if key in contents.strict or len(ids) != 1 or value != 0:
            yield f"{key!r} has the dead letters {ids} and the row {contents.strict.get(key)}"
