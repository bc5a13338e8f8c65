"""`RowReads`: which rows are being read, so that what was read before a change is not kept."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar


@dataclass(slots=True)
class RowRead:
    """The tasks that read the row of one key at the same time."""

    tasks: int = 0
    latest: bool = True
    """False once the row was changed: what these tasks read may be older and must not be kept."""


R = TypeVar("R", bound=RowRead)


class RowReads(Generic[R]):
    """The reads in progress, by key."""

    def __init__(self, new: Callable[[], R]) -> None:
        """Begin without a read.

        Args:
            new: makes the object that the tasks of a read share.
        """
        self._new = new
        self._reads: dict[str, R] = {}

    @contextmanager
    def reading(self, key: str) -> Generator[R, None, None]:
        """Read the row of a key during the block.

        Yields:
            What the tasks share that read this key and began after its last change.
        """
        read = self._reads.get(key)
        if read is None:
            read = self._reads[key] = self._new()
        read.tasks += 1
        try:
            yield read
        finally:
            read.tasks -= 1
            if read.latest and not read.tasks:
                del self._reads[key]

    def changed(self, key: str) -> None:
        """Note that the row of a key was changed or deleted."""
        read = self._reads.pop(key, None)
        if read is not None:
            read.latest = False

    def all_changed(self) -> None:
        """Note that all rows were changed."""
        for key in list(self._reads):
            self.changed(key)
