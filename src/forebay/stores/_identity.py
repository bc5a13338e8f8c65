"""Whether a path still leads to the file that was opened."""

from __future__ import annotations

from pathlib import Path

from forebay._errors import StoreError


class FileIdentity:
    """A file, known by its device and inode.

    Writes to a file that was deleted or replaced succeed, and are gone with it: see
    https://sqlite.org/howtocorrupt.html, "Unlinking or renaming a database file while in use".
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._known = self._look()

    def _look(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def check(self) -> None:
        """Refuse to go on with another file.

        Raises:
            StoreError: the file was deleted, renamed or replaced.
        """
        found = self._look()
        if found != self._known:
            happened = "deleted or renamed" if found is None else "replaced"
            raise StoreError(
                f"{str(self._path)!r} was {happened} while it was open: what is written now would "
                f"be lost; put the file back, or restart the program"
            )
