"""What one run of the transfer worker came to: by it the storage is judged."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from forebay.cache.tables import S3Transfer, TransferType


@dataclass(slots=True)
class Tally:
    """What became of a run's transfers of one way."""

    done: int = 0
    unavailable: list[tuple[S3Transfer, Exception]] = field(default_factory=list)
    """Those that found the storage out of order, and what they raised."""

    @property
    def works(self) -> bool:
        """Whether the storage does as many of these as it leaves undone."""
        return len(self.unavailable) <= self.done


@dataclass(slots=True)
class Run:
    """One way through the queue, from the first transfer that is taken to the last that ends."""

    tallies: dict[TransferType, Tally] = field(
        default_factory=lambda: {way: Tally() for way in TransferType}
    )
    limited: bool = False
    """Whether the storage asked for fewer requests."""
    taken: trio.Event = field(default_factory=trio.Event)
    """Set when nothing more is taken from the queue."""
    ended: trio.Event = field(default_factory=trio.Event)
    """Set when the last transfer has ended, and what was turned away is judged."""

    @property
    def turned_away(self) -> bool:
        """Whether the storage ended the run."""
        return self.limited or not all(tally.works for tally in self.tallies.values())

    @property
    def done(self) -> int:
        """How many transfers are done, both ways."""
        return sum(tally.done for tally in self.tallies.values())
