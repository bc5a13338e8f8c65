import enum
import sqlite3
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple
from uuid import UUID, uuid4

import forebay
import trio


class State(enum.Enum):
    NEW = "new"
    RUNNING = "running"
    DONE = "done"


class Job(NamedTuple):
    id: UUID
    state: State
    payload: Annotated[dict[str, Any], forebay.Json]
    created: datetime
    finished: datetime | None = None


jobs = forebay.Table(Job, name="jobs", key="id", indexes=[("state", "created")])
OLDEST = "SELECT id FROM jobs WHERE state = 'new' ORDER BY created LIMIT 1"


def claim(raw: sqlite3.Connection) -> str | None:
    sql = f"UPDATE jobs SET state = 'running' WHERE id = ({OLDEST}) RETURNING id"
    claimed = raw.execute(sql).fetchall()
    return claimed[0][0] if claimed else None


async def work(store: forebay.SqliteStore, buffer: forebay.Buffer[Job]) -> None:
    while job_id := await store.run(claim):  # each job is claimed once
        job = await store.fetch_one("SELECT * FROM jobs WHERE id = ?", [job_id], table=jobs)
        assert job is not None
        await buffer.enqueue_update(job.id, payload={**job.payload, "size": 1024})
        await buffer.enqueue_update(job.id, state=State.DONE, finished=datetime.now(UTC))


async def main() -> None:
    async with (
        forebay.open_sqlite("jobs.db", create=[jobs]) as store,
        forebay.open_buffers(store, jobs) as buffers,
    ):
        for url in ("/a", "/b"):
            job = Job(uuid4(), State.NEW, {"url": url}, datetime.now(UTC))
            await buffers[jobs].write(job)  # committed, so that it can be claimed
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(work, store, buffers[jobs])
        await buffers[jobs].flush()
        counts = await store.fetch_all("SELECT state, count(*) FROM jobs GROUP BY state")
        print({State(state): count for state, count in counts})


trio.run(main)
