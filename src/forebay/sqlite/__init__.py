"""SQLite for Trio: the standard library's `sqlite3`, in threads, one hop a call.

Usable alone, without buffers::

    import trio
    from forebay import sqlite

    def rename(raw, old, new):  # runs in a thread, inside one transaction
        raw.execute("UPDATE users SET name = ? WHERE name = ?", (new, old))
        return raw.execute("SELECT count(*) FROM users").fetchone()[0]

    async def main():
        async with sqlite.connect("app.db", pragmas={"journal_mode": "wal"}) as connection:
            await connection.execute("CREATE TABLE IF NOT EXISTS users (name TEXT)")
            await connection.execute("INSERT INTO users VALUES (?)", ("ada",))
            print(await connection.transaction(rename, "ada", "grace"))
            print(await connection.fetch_all("SELECT name FROM users"))

    trio.run(main)

The rules, the same for every call:

* One call is one hop to a worker thread and back, however many statements it runs. Statements
  that belong together belong in one function, given to `Connection.run` or
  `Connection.transaction`.
* A connection serves one call at a time, in the order in which the calls were made. Several
  connections work in several threads at once: `sqlite3` gives the GIL away inside SQLite.
* Nothing is ever abandoned. A call that is cancelled while it waits for its turn never runs. Once
  its turn has come it runs to its end, and its result or its exception is what the caller gets;
  a cancellation that arrives meanwhile is raised at the caller's next checkpoint. So whether a
  COMMIT took place is always known.
* Transactions are explicit. `sqlite3` never begins one by itself (``isolation_level=None``), so a
  statement outside `Connection.transaction` commits on its own.
"""

from __future__ import annotations

from forebay.sqlite._connection import (
    Connection,
    ConnectionState,
    ConnectionStatistics,
    Parameters,
    Result,
    connect,
)
from forebay.sqlite._transaction import CommitError, TransactionEndedError, transact

__all__ = [
    "CommitError",
    "Connection",
    "ConnectionState",
    "ConnectionStatistics",
    "Parameters",
    "Result",
    "TransactionEndedError",
    "connect",
    "transact",
]
