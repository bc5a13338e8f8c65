"""The connection of the writer, which the functions of a program share with the buffers.

A function that `SqliteStore.run` calls may change the connection. What would change the statements
of the buffers, or would keep a lock or a snapshot of the file, ends with the function.
"""

from __future__ import annotations

import sqlite3
import sys
from typing import Any, Final, NoReturn, TypeVar
from weakref import ref

from forebay._errors import StoreError

Handle = TypeVar("Handle", sqlite3.Cursor, sqlite3.Blob)

_MOST_HANDLES: Final = 1_000
"""The number of handles after which those that are gone are forgotten."""


class _AttachWatch:
    """An authorizer that allows everything, and remembers whether a database was attached.

    SQLite compiles an ATTACH statement each time, and DETACH makes it compile all statements again.
    """

    def __init__(self) -> None:
        self.attached = False

    def __call__(self, action: int, *_details: str | None) -> int:
        if action == sqlite3.SQLITE_ATTACH:
            self.attached = True
        return sqlite3.SQLITE_OK


class WriterConnection(sqlite3.Connection):
    """A connection that can be lent to a function of the program.

    While it is lent it has another class, whose methods remember what the function leaves: the
    statements of the buffers need not pay for that.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._watch = _AttachWatch()
        super().set_authorizer(self._watch)
        self._handles: list[ref[sqlite3.Cursor | sqlite3.Blob]] = []
        """The cursors and blobs that the function opened. Most of them are gone at once."""
        self._most_handles = _MOST_HANDLES
        self._callbacks_set = False

    def begin_loan(self) -> None:
        """Remember from now on what the function of the program leaves, until `end_loan`."""
        # Both classes have the same attributes. pyright would have only a subclass of this one.
        self.__class__ = _LentConnection  # pyright: ignore[reportAttributeAccessIssue]

    def end_loan(self) -> None:
        """Close cursors and blobs, and reset the authorizer, the progress handler, the factories.

        Call it inside the transaction: any of them could make COMMIT and ROLLBACK fail.
        """
        self.__class__ = WriterConnection  # pyright: ignore[reportAttributeAccessIssue]
        for reference in self._handles:
            if (handle := reference()) is not None:
                handle.close()
        self._handles.clear()
        self._most_handles = _MOST_HANDLES
        self.row_factory = None
        self.text_factory = str
        if self._callbacks_set:
            self._callbacks_set = False
            self._watch.attached = True  # perhaps: it was not asked
            self.set_authorizer(self._watch)
            self.set_progress_handler(None, 0)

    def reset(self) -> None:
        """Reset what cannot be reset in a transaction, and detach databases.

        Raises:
            StoreError: a database cannot be detached.
        """
        # In a transaction, these assignments would commit.
        if self.isolation_level is not None:
            self.isolation_level = None
        if sys.version_info >= (3, 12) and self.autocommit != sqlite3.LEGACY_TRANSACTION_CONTROL:
            self.autocommit = sqlite3.LEGACY_TRANSACTION_CONTROL
        if self._watch.attached:
            for _, name, _ in self.execute("PRAGMA database_list").fetchall():
                if name not in ("main", "temp"):
                    self._detach(name)
            self._watch.attached = False

    def _detach(self, name: str) -> None:
        quoted = name.replace('"', '""')
        try:
            self.execute(f'DETACH "{quoted}"').close()
        except sqlite3.Error as error:
            raise StoreError(
                f"the database {name!r}, which a function attached, cannot be detached ({error}), "
                f"so every later transaction locks it too; close all cursors in the function"
            ) from error

    def deserialize(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Refuse to replace the database, because the store would go on with a copy in memory."""
        raise sqlite3.NotSupportedError(
            "deserialize() would replace the file of the store by a database in memory; open that "
            "database with sqlite3.connect(':memory:'), and copy its rows"
        )


class _LentConnection(WriterConnection):
    """A connection that is lent. No method of the base classes calls another one here."""

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """Return a new cursor."""
        return self._remembered(super().cursor(*args, **kwargs))

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Execute one statement with a new cursor."""
        return self._remembered(super().execute(sql, parameters))

    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
        """Execute one statement once for each of the parameters with a new cursor."""
        return self._remembered(super().executemany(sql, parameters))

    def blobopen(self, *args: Any, **kwargs: Any) -> sqlite3.Blob:
        """Open a stored value for reading and writing in parts."""
        return self._remembered(super().blobopen(*args, **kwargs))

    def _remembered(self, handle: Handle) -> Handle:
        self._handles.append(ref(handle))
        if len(self._handles) > self._most_handles:
            self._handles = [known for known in self._handles if known() is not None]
            self._most_handles = 2 * len(self._handles) + _MOST_HANDLES
        return handle

    def set_authorizer(self, *args: Any, **kwargs: Any) -> None:
        """Set the function that SQLite asks for permission when it compiles a statement."""
        super().set_authorizer(*args, **kwargs)
        self._callbacks_set = True

    def set_progress_handler(self, *args: Any, **kwargs: Any) -> None:
        """Set the function that SQLite calls at intervals, and that can interrupt a statement."""
        super().set_progress_handler(*args, **kwargs)
        self._callbacks_set = True
