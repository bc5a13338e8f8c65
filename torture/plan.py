"""The plan of each episode. The seed decides it, so every session with a seed has the same."""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass
from pathlib import Path

from tests.faults.harness import Fault

LONG_LOCK = 60.0
"""How long the database is locked in one episode, in seconds."""


class Ending(enum.Enum):
    """How the program ends."""

    BY_ITSELF = "ran to the end"
    TERMINATED = "terminated, then drained"
    INTERRUPTED = "interrupted by Ctrl-C, then drained"
    KILLED = "killed at an acknowledgement"
    KILLED_AT_A_CALL = "killed at a system call"


@dataclass(frozen=True)
class Episode:
    """One run of the program.

    Attributes:
        number: the number of the episode, counted from 0.
        producers: the number of tasks that write.
        steps: the number of steps of each task.
        stride: the number of steps between two flushes of a task.
        ending: how the program ends.
        after: the number of acknowledgements after which it ends.
        call: the system call that fails, or at which the program is killed; None for no fault.
        action: the action that strace injects into the call.
        when: the numbers of the calls into which strace injects it.
        from_start: whether faults begin before the database is open.
        rival_dies: whether the rival process is killed and replaced before the episode.
        lock: how long the database is locked at the start, in seconds.
        hide: the number of acknowledgements after which a table is renamed for a moment, so that
            its buffer is suspended; None for never.
    """

    number: int
    producers: int
    steps: int
    stride: int
    ending: Ending
    after: int
    call: str | None
    action: str
    when: str
    from_start: bool
    rival_dies: bool
    lock: float = 0.0
    hide: int | None = None

    def faults(self, path: Path) -> list[Fault]:
        """Return the faults that strace injects."""
        return [Fault(path, self.call, self.action, self.when)] if self.call else []

    def __str__(self) -> str:
        fault = f", {self.call} {self.action} at {self.when}" if self.call else ""
        return (
            f"episode {self.number}: {self.producers} producers, {self.steps} steps, a flush "
            f"every {self.stride} steps, {self.ending.value} (after {self.after}){fault}"
        )


def draw(seed: int, number: int, *, strace: bool, long_lock: bool) -> Episode:
    """Return a random episode.

    Args:
        seed: the seed of the session.
        number: the number of the episode.
        strace: whether strace can inject faults into system calls on this machine.
        long_lock: whether the database is locked for `LONG_LOCK` seconds.
    """
    chance = random.Random(f"{seed} {number}")
    endings = list(Ending) if strace else list(Ending)[:-1]
    ending = chance.choices(endings, [1, 2, 2, 4, 4][: len(endings)])[0]
    call, action, when = None, "", ""
    if ending is Ending.KILLED_AT_A_CALL:
        call = chance.choice(["pwrite64", "pwrite64", "pwrite64", "fdatasync", "ftruncate"])
        action, when = "signal=KILL", str(_small(chance, 400 if call == "pwrite64" else 60))
    elif strace and chance.random() < 0.6:
        call = chance.choice(["pwrite64", "fdatasync"])
        action = chance.choice(
            ["error=EIO", "error=ENOSPC"] if call == "pwrite64" else ["error=EIO"]
        )
        first = _small(chance, 200 if call == "pwrite64" else 40)
        when = f"{first}..{first + _small(chance, 20)}"
    return Episode(
        number=number,
        producers=chance.randint(2, 12),
        steps=chance.choice([12, 30, 60]),
        stride=chance.choice([1, 4, 7, 15]),
        ending=Ending.BY_ITSELF if long_lock else ending,
        after=_small(chance, 150),
        call=None if long_lock else call,
        action=action,
        when=when,
        from_start=chance.random() < 0.15,
        rival_dies=chance.random() < 0.25,
        lock=LONG_LOCK if long_lock else 0.0,
        hide=_small(chance, 40) if chance.random() < 0.3 else None,
    )


def _small(chance: random.Random, most: int) -> int:
    """Return a random number from 1 to `most`, small ones more often than large ones."""
    return 1 + int(most * chance.random() ** 2)
