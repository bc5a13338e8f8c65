"""How a database is identified: by its path, and by an id that is stored in it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Database:
    """The identity of a database, which it keeps when its file is moved.

    Attributes:
        path: the path of its file, absolute and without symbolic links.
        id: the unique id that is stored in the database; None if it has no id, or if the id could
            not be read.
    """

    path: str
    id: str | None

    @classmethod
    def at(cls, path: str | os.PathLike[str], known: str | None) -> Self:
        """Return the identity of the database at a path.

        Args:
            path: the path of its file, which may be relative.
            known: its id, or None.
        """
        return cls(os.path.realpath(os.fsdecode(path)), known)

    def __str__(self) -> str:
        return repr(self.path) if self.id is None else f"{self.path!r} (id {self.id})"

    def differs_from(self, other: Database) -> bool:
        """Return whether these are two different databases.

        Two ids decide: the same path on two machines means two databases, and a file that was
        moved is the same database. If one of the ids is None, the paths decide.

        Args:
            other: the other database.
        """
        if self.id is not None and other.id is not None:
            return self.id != other.id
        return self.path != other.path
