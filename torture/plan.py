"""What happens in each episode: drawn from the seed, and so the same in every session with it."""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass
from pathlib import Path

from tests.faults.harness import Fault

LONG_LOCK = 60.0
"""Seconds that the lock is held for in the one episode that is about that."""


class Ending(enum.Enum):
    """How a program is ended."""

    BY_ITSELF = "ran to its end"
    TERMINATED = "terminated, and drained"
    KILLED = "killed at an acknowledgement"
    KILLED_AT_A_CALL = "killed at a system call"


@dataclass(frozen=True)
class Episode:
    """One life of the program.

    Attributes:
        number: which one it is.
        producers: how many tasks write.
        steps: how many steps each of them makes.
        stride: after how many steps it flushes.
        ending: how it is ended.
        after: after how many acknowledgements that is.
        call: the system call that is made to fail, or to kill, if any.
        action: what strace injects into it.
        when: into which of its calls.
        from_start: whether faults begin before the file is open.
        rival_dies: whether the rival is killed too, and another one started.
        lock: how long the lock is held at the start, in seconds.
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

    def faults(self, path: Path) -> list[Fault]:
        """Give what strace has to do."""
        return [Fault(path, self.call, self.action, self.when)] if self.call else []

    def __str__(self) -> str:
        fault = f", {self.call} {self.action} at {self.when}" if self.call else ""
        return (
            f"episode {self.number}: {self.producers} producers, {self.steps} steps, flushed "
            f"every {self.stride}, {self.ending.value} (after {self.after}){fault}"
        )


def draw(seed: int, number: int, *, strace: bool, long_lock: bool) -> Episode:
    """Draw an episode.

    Args:
        seed: the session's.
        number: which one it is.
        strace: whether faults of system calls can be injected here.
        long_lock: whether the lock is held for a minute.
    """
    chance = random.Random(f"{seed} {number}")
    endings = list(Ending) if strace else list(Ending)[:-1]
    ending = chance.choices(endings, [1, 2, 4, 4][: len(endings)])[0]
    call, action, when = None, "", ""
    if ending is Ending.KILLED_AT_A_CALL:
        call = chance.choice(["pwrite64", "pwrite64", "pwrite64", "fdatasync", "ftruncate"])
        action, when = "signal=KILL", str(_soon(chance, 400 if call == "pwrite64" else 60))
    elif strace and chance.random() < 0.6:
        call = chance.choice(["pwrite64", "fdatasync"])
        action = chance.choice(
            ["error=EIO", "error=ENOSPC"] if call == "pwrite64" else ["error=EIO"]
        )
        first = _soon(chance, 200 if call == "pwrite64" else 40)
        when = f"{first}..{first + _soon(chance, 20)}"
    return Episode(
        number=number,
        producers=chance.randint(2, 12),
        steps=chance.choice([12, 30, 60]),
        stride=chance.choice([1, 4, 7, 15]),
        ending=Ending.BY_ITSELF if long_lock else ending,
        after=_soon(chance, 150),
        call=None if long_lock else call,
        action=action,
        when=when,
        from_start=chance.random() < 0.15,
        rival_dies=chance.random() < 0.25,
        lock=LONG_LOCK if long_lock else 0.0,
    )


def _soon(chance: random.Random, most: int) -> int:
    """Draw a number, small ones more often than large ones."""
    return 1 + int(most * chance.random() ** 2)
