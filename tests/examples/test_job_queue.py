"""The example of a job queue: no job is lost or doubled when its workers are killed."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import time
from contextlib import AbstractContextManager, closing, suppress
from pathlib import Path
from typing import Any, BinaryIO

from tests.examples.programs import Program, example, rows, run_section, started
from tests.waiting import wait_until


def add(folder: Path, *paths: str | Path) -> str:
    """Add a job for each path, and return what the program printed."""
    done = subprocess.run(
        example("job_queue.py", "jobs.db", *paths),
        cwd=folder,
        check=True,
        timeout=60,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return done.stdout.decode()


def worker(folder: Path, *, lease: float = 60) -> AbstractContextManager[Program]:
    return started(example("job_queue.py", "jobs.db"), folder, {"LEASE_SECONDS": str(lease)})


def query(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    return rows(folder / "jobs.db", sql)


def states(folder: Path) -> set[str]:
    return {state for (state,) in query(folder, "SELECT DISTINCT state FROM jobs")}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_the_readme(tmp_path: Path) -> None:
    """The commands of the README print what it says."""
    run_section("A job queue", tmp_path, {})


def test_killed_workers_neither_lose_nor_double_a_job(tmp_path: Path) -> None:
    """Two processes are killed four times. At the end each job has one result, the right one."""
    files = [tmp_path / f"file{number}" for number in range(400)]
    for number, file in enumerate(files):
        file.write_bytes(str(number).encode() * 5_000)
    add(tmp_path, *files)
    seed = random.randrange(1000)
    draw = random.Random(seed)
    for _ in range(4):
        enough = len(query(tmp_path, "SELECT * FROM results")) + 10

        def there_are_enough(count: int = enough) -> bool:
            return len(query(tmp_path, "SELECT * FROM results")) >= count

        with worker(tmp_path, lease=1) as one, worker(tmp_path, lease=1) as two:
            wait_until(there_are_enough, f"{enough} results", lambda: one.output + two.output)
            time.sleep(draw.random() / 50)  # a random moment of the crash
            one.kill()
            two.kill()
    assert "waiting" in states(tmp_path)
    with worker(tmp_path) as last:
        wait_until(lambda: states(tmp_path) == {"done"}, "each job is done", lambda: last.output)
        last.terminate()
    expected = {(str(file), sha256(file.read_bytes())) for file in files}
    found = query(tmp_path, "SELECT path, sha256 FROM jobs JOIN results ON id = job")
    assert expected == set(found), seed
    assert len(found) == len(files), seed


def suspend(program: Program, folder: Path) -> None:
    """Suspend a program at a moment at which it does not lock the database."""

    def is_suspended() -> bool:
        program.process.send_signal(signal.SIGSTOP)
        with closing(sqlite3.connect(folder / "jobs.db", timeout=0.1, isolation_level=None)) as raw:
            try:
                raw.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                program.process.send_signal(signal.SIGCONT)
                return False
            return True

    wait_until(is_suspended, "the program holds no lock", lambda: program.output)


def open_when_read(fifo: Path, program: Program) -> BinaryIO:
    """Wait until a program has opened a FIFO to read it, and open it to write."""

    def opened() -> int | None:
        with suppress(OSError):  # nobody reads it
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        return None

    descriptor = wait_until(opened, f"{fifo} is read", lambda: program.output)
    os.set_blocking(descriptor, True)
    return os.fdopen(descriptor, "wb")


def test_a_worker_whose_lease_has_ended_settles_nothing(tmp_path: Path) -> None:
    """A process is suspended until its lease is over. When it goes on, another has the result."""
    path = tmp_path / "job"
    os.mkfifo(path)
    with worker(tmp_path) as slow:
        add(tmp_path, path)
        with open_when_read(path, slow) as content:
            path.rename(tmp_path / "fifo")
            path.write_bytes(b"fast")
            suspend(slow, tmp_path)
            with closing(sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)) as raw:
                raw.execute("UPDATE jobs SET due = '2026-01-01 00:00:00.000000+00:00'")
            with worker(tmp_path) as fast:
                fast.wait_for("job: done")
                fast.terminate()
            content.write(b"slow")
        slow.process.send_signal(signal.SIGCONT)
        slow.wait_for("job: done")
        slow.terminate()
    assert [(sha256(b"fast"),)] == query(tmp_path, "SELECT sha256 FROM results")
    attempts = query(tmp_path, "SELECT state, text FROM log ORDER BY ended")
    assert [("done", sha256(b"fast")), ("done", sha256(b"slow"))] == attempts


def test_a_job_that_fails_is_tried_three_times(tmp_path: Path) -> None:
    """After the third attempt it is failed, and has no result."""
    add(tmp_path, "missing")
    with worker(tmp_path) as running:
        running.wait_for("missing: failed")
        running.terminate()
    assert [("failed", None)] == query(tmp_path, "SELECT state, lease FROM jobs")
    assert [] == query(tmp_path, "SELECT * FROM results")
    log = [state for (state,) in query(tmp_path, "SELECT state FROM log ORDER BY ended")]
    assert ["waiting", "waiting", "waiting", "failed"] == log


def test_a_path_that_cannot_be_stored_is_a_dead_letter(tmp_path: Path) -> None:
    """The other jobs are added, and the program says how many."""
    assert add(tmp_path, "a", os.fsdecode(b"\xff"), "b").endswith("added 2 of 3 jobs\n")
    assert [("a",), ("b",)] == query(tmp_path, "SELECT path FROM jobs ORDER BY path")
    assert [("jobs",)] == query(tmp_path, "SELECT buffer FROM forebay_dead_letters")


def test_sigterm_finishes_the_current_job(tmp_path: Path) -> None:
    """The program ends when the job has its result."""
    path = tmp_path / "job"
    os.mkfifo(path)
    with worker(tmp_path) as running:
        add(tmp_path, path)
        with open_when_read(path, running) as content:
            running.process.terminate()
            content.write(b"content")
        assert 0 == running.wait(), running.output
    assert [("done",)] == query(tmp_path, "SELECT state FROM jobs")
    assert [(sha256(b"content"),)] == query(tmp_path, "SELECT sha256 FROM results")
