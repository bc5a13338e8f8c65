"""Run the standard library's `sqlite3` under Trio, in threads, with one thread hop per call.

You can use this module alone, without buffers::

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

Every call follows these rules:

* A connection has a thread of its own, from its opening until it is closed. A call is one hop to
  that thread and back, no matter how many statements it executes. Put statements that belong
  together into one function, and pass it to `Connection.run` or `Connection.transaction`.
* A connection runs one call at a time, in the order of the calls. Several connections run in
  several threads at the same time, because `sqlite3` releases the GIL inside SQLite.
* No call is abandoned. A call that is cancelled while it waits for its turn never runs. A call
  that has begun runs to its end, and its caller gets its result or its exception; a cancellation
  in the meantime is raised at the caller's next checkpoint. So it is always known whether a
  COMMIT took place. A function can ask for the cancellation with
  `trio.from_thread.check_cancelled`. A query of `read`, `fetch_all` or `fetch_one` is interrupted
  if the connection is ``readonly``.
* A function may call `trio.from_thread.run` and `trio.from_thread.run_sync` without a token. What
  it awaits is cancelled with its caller.
* Transactions are explicit. `sqlite3` never begins one by itself (``isolation_level=None``), so
  each statement outside `Connection.transaction` is committed separately.
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
from forebay.sqlite._thread import BegunCall
from forebay.sqlite._transaction import CommitError, TransactionEndedError, transact

__all__ = [
    "BegunCall",
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
