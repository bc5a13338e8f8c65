"""Whether a path still leads to the file that was opened."""

from __future__ import annotations

import os

from forebay._errors import StoreError


class FileIdentity:
    """A file, known by its device and inode.

    Writes to a file that was deleted or replaced succeed, and are gone with it: see
    https://sqlite.org/howtocorrupt.html, "Unlinking or renaming a database file while in use".
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._known = _identity(look(path))

    def check(self) -> os.stat_result | None:
        """Refuse to go on with another file.

        Returns:
            The state of the file; None where there was none from the beginning.

        Raises:
            StoreError: it was deleted, renamed or replaced.
        """
        found = look(self._path)
        if _identity(found) != self._known:
            happened = "deleted or renamed" if found is None else "replaced"
            raise StoreError(
                f"{self._path!r} was {happened} while it was open: what is written now may be "
                f"lost; put the file back, or restart the program"
            )
        return found


def look(path: str) -> os.stat_result | None:
    """Tell the state of a file; None where there is none."""
    # os.stat, since it is asked in each transaction, and pathlib takes as long again.
    try:
        return os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        return None


def _identity(status: os.stat_result | None) -> tuple[int, int] | None:
    return None if status is None else (status.st_dev, status.st_ino)
