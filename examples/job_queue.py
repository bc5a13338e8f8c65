"""A job queue in a SQLite file: a job hashes a file. Any number of processes may work on it.

The lease of a worker that is killed ends. The result and the end of a job are one transaction.
"""

import enum
import hashlib
import os
import signal
import sqlite3
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid4

import trio

import forebay

LEASE_SECONDS = float(os.environ.get("LEASE_SECONDS", "60"))  # longer than any job
MAX_ATTEMPTS = 3


class State(enum.Enum):
    WAITING = "waiting"
    LEASED = "leased"
    DONE = "done"
    FAILED = "failed"


class Job(NamedTuple):
    id: UUID
    path: str
    state: State
    due: datetime  # when it may be leased; if it is leased, when the lease ends
    attempts: int = 0
    lease: UUID | None = None


class Result(NamedTuple):
    job: UUID
    sha256: str


class Attempt(NamedTuple):
    job: UUID
    ended: datetime
    state: State
    text: str


jobs = forebay.Table(Job, name="jobs", key="id", indexes=[("state", "due"), "lease"])
results = forebay.Table(Result, name="results")
log = forebay.Table(Attempt, name="log")  # a killed worker may lose the last 0.2 s of it

LEASE = """
    UPDATE jobs SET state = 'leased', due = :end, attempts = attempts + 1, lease = :lease WHERE id =
    (SELECT id FROM jobs WHERE state IN ('waiting', 'leased') AND due <= :now ORDER BY due LIMIT 1)
"""


def lease_next(raw: sqlite3.Connection, lease: UUID) -> None:
    now, end = (jobs.stored("due", datetime.now(UTC) + timedelta(0, s)) for s in (0, LEASE_SECONDS))
    raw.execute(LEASE, {"now": now, "end": end, "lease": str(lease)})


def settle(raw: sqlite3.Connection, job: Job, state: State, sha256: str) -> None:
    due = jobs.stored("due", datetime.now(UTC) + timedelta(seconds=2**job.attempts / 10))
    sql = "UPDATE jobs SET state = ?, due = ?, lease = NULL WHERE id = ? AND lease = ?"
    ended = raw.execute(sql, (state.value, due, str(job.id), str(job.lease))).rowcount
    if ended and state is State.DONE:  # the worker still has the lease
        raw.execute("INSERT INTO results VALUES (?, ?)", (str(job.id), sha256))


async def work(store: forebay.SqliteStore, buffers: forebay.Buffers, stop: trio.Event) -> None:
    while not stop.is_set():
        lease = uuid4()
        await store.run(lease_next, lease)
        sql = "SELECT * FROM jobs WHERE lease = ?"
        if (job := await store.fetch_one(sql, [str(lease)], table=jobs)) is None:
            await trio.sleep(0.1)
            continue
        state, text = State.FAILED, f"{MAX_ATTEMPTS} attempts failed"
        try:
            if job.attempts <= MAX_ATTEMPTS:
                content = await trio.to_thread.run_sync(Path(job.path).read_bytes)
                state, text = State.DONE, hashlib.sha256(content).hexdigest()
        except OSError as error:
            state, text = State.WAITING, str(error)
        await store.run(settle, job, state, text)
        await buffers[log].enqueue(Attempt(job.id, datetime.now(UTC), state, text))
        print(f"{job.path}: {state.value}", flush=True)


async def main(database: str, paths: list[str]) -> None:
    """Add a job for each path; without a path, work until SIGTERM."""
    async with (
        forebay.open_sqlite(database, create=[jobs, results, log]) as store,
        forebay.open_buffers(store, jobs, log) as buffers,
    ):
        for path in paths:
            await buffers[jobs].enqueue(Job(uuid4(), path, State.WAITING, datetime.now(UTC)))
        if paths:
            await buffers.flush()
            print(f"added {buffers[jobs].statistics().committed} of {len(paths)} jobs")
            return
        stop = trio.Event()
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(work, store, buffers, stop)
                await anext(signals)
                stop.set()  # the workers finish their jobs, then the buffers drain


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: job_queue.py DATABASE [FILE…]: add files, or work")
    trio.run(main, sys.argv[1], sys.argv[2:])
