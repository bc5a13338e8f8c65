"""Whether the paths of a database still lead to the files that were opened."""

from __future__ import annotations

import os

from forebay._errors import StoreError


class FileIdentity:
    """A database and its write-ahead log, known by their devices and inodes.

    Writes to a file that was deleted or replaced succeed, and are gone with it: see
    https://sqlite.org/howtocorrupt.html, "Unlinking or renaming a database file while in use".
    SQLite itself removes the log only when the last connection closes, and makes another only when
    the first one opens. To be made when there is a log, on a connection that stays open.
    """

    def __init__(self, path: str) -> None:
        self._known = {name: _look(name) for name in (path, f"{path}-wal")}

    def check(self) -> None:
        """Refuse to go on with other files.

        Raises:
            StoreError: one was deleted, renamed or replaced.
        """
        for path, known in self._known.items():
            found = _look(path)
            if found != known:
                happened = "deleted or renamed" if found is None else "replaced"
                raise StoreError(
                    f"{path!r} was {happened} while it was open: what is written now may be "
                    f"lost; put the file back, or restart the program"
                )


def _look(path: str) -> tuple[int, int] | None:
    # os.stat, since it is asked twice a transaction, and pathlib takes as long again.
    try:
        status = os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
