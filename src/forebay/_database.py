"""Which database entries are for: where it is, and an id that stays with it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Database:
    """A database, known wherever it is moved.

    Attributes:
        path: where it is, absolute and without symbolic links.
        id: a name of its own, kept in it; None where it has none, or cannot be asked.
    """

    path: str
    id: str | None

    @classmethod
    def at(cls, path: str | os.PathLike[str], known: str | None) -> Self:
        """Give the database at a path, by the id that it has."""
        return cls(os.path.realpath(os.fsdecode(path)), known)

    def __str__(self) -> str:
        return repr(self.path) if self.id is None else f"{self.path!r} (id {self.id})"

    def is_other(self, than: Database) -> bool:
        """Tell whether these are two databases.

        The ids decide. The same path on two machines is not the same database, and one that was
        moved is; only where one of them has no id do the paths decide.
        """
        if self.id is not None and than.id is not None:
            return self.id != than.id
        return self.path != than.path
