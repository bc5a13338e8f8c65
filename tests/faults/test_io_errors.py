"""After a failed write or sync a COMMIT may be in doubt, but each row is written exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.faults.harness import Child, Fault, Zygote, read
from tests.faults.test_kill import check

ROUNDS = 2


def acknowledged(lines: list[str]) -> list[str]:
    return [line for line in lines if not line.startswith("failed")]


def failures(lines: list[str]) -> set[str]:
    return {line.removeprefix("failed ") for line in lines if line.startswith("failed")}


ALL = [f"{word} {i}" for i in range(ROUNDS) for word in ("flushed", "written")] + ["drained"]


@pytest.mark.strace
@pytest.mark.parametrize(
    ("call", "error", "synchronous", "expected"),
    [
        ("fdatasync", "EIO", "FULL", "IN_DOUBT SQLITE_IOERR_FSYNC"),
        ("pwrite64", "EIO", "NORMAL", "IN_DOUBT SQLITE_IOERR_WRITE"),
        ("pwrite64", "ENOSPC", "NORMAL", "IN_DOUBT SQLITE_FULL"),
    ],
)
def test_each_row_is_written_once_whichever_call_fails(
    zygote: Zygote, fast_disk: Path, call: str, error: str, synchronous: str, expected: str
) -> None:
    """The n-th call fails, for every n. The batch is retried, and is in the file once."""
    seen = set[str]()
    for n in count(1):
        path = fast_disk / f"{n}.db"
        fault = Fault(path, call, f"error={error}", str(n))
        arguments = (path, 0, ROUNDS, synchronous, 4, "pause")
        with zygote.run("writer.py", *arguments, faults=[fault], after="open") as child:
            lines = child.lines()
            assert 0 == child.wait(), child.errors()
        assert ALL == acknowledged(lines)
        check(path, lines, range(ROUNDS))
        assert [(ROUNDS,)] == read(path, "SELECT n FROM totals")
        seen |= failures(lines)
        if child.injected() == 0:
            break
    assert {expected} == seen


def until(child: Child, ending: str) -> Iterator[str]:
    for line in iter(child.line, ""):
        yield line
        if line == ending or line.startswith(f"{ending} "):
            return


@pytest.mark.strace
@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
def test_a_commit_in_doubt_that_was_retried_survives_a_kill(
    zygote: Zygote, fast_disk: Path, call: str
) -> None:
    """COMMIT fails, is retried, is acknowledged; after kill -9 each row is in the file once."""
    doubts = 0
    for n in count(1):
        path = fast_disk / f"{n}.db"
        fault = Fault(path, call, "error=EIO", str(n))
        arguments = (path, 0, ROUNDS, "FULL", 1000, "pause")
        with zygote.run("writer.py", *arguments, faults=[fault], after="open") as child:
            lines = list(until(child, f"written {ROUNDS - 1}"))
            child.kill()
            child.wait()
        check(path, lines, range(ROUNDS))
        doubts += len(lines) > len(acknowledged(lines))
        if child.injected() == 0:
            break
    assert doubts >= 2 * ROUNDS


@pytest.mark.strace
def test_a_commit_in_doubt_at_a_kill_is_in_the_file_once_or_not_at_all(
    zygote: Zygote, fast_disk: Path
) -> None:
    """From the n-th sync on, each fails: nothing more is acknowledged, and no row is repeated."""
    found = 0
    for n in range(1, 13):
        path = fast_disk / f"{n}.db"
        fault = Fault(path, "fdatasync", "error=EIO", f"{n}+")
        arguments = (path, 0, 9, "FULL", 1000, "pause")
        with zygote.run("writer.py", *arguments, faults=[fault], after="open") as child:
            lines = [*until(child, "failed"), *until(child, "failed")]
            child.kill()
            lines += [line for line in child.lines() if not line.startswith("failed")]
        check(path, lines, range(9))
        written = sum(line.startswith("written") for line in lines)
        found += len(read(path, "SELECT key FROM entries WHERE grp = -1")) > written
    assert found, "no batch in doubt was in the file: the test would prove nothing"


@pytest.mark.strace
@pytest.mark.parametrize(
    ("call", "error"), [("pwrite64", "EIO"), ("pwrite64", "ENOSPC"), ("fdatasync", "EIO")]
)
def test_a_file_that_cannot_be_created_is_refused(
    zygote: Zygote, fast_disk: Path, call: str, error: str
) -> None:
    """Each call that creates the file or its tables fails once: a clear error, or no effect."""
    refused = 0
    for n in count(1):
        path = fast_disk / f"{n}.db"
        fault = Fault(path, call, f"error={error}", str(n))
        with zygote.run("writer.py", path, 0, 0, "FULL", faults=[fault]) as child:
            lines = child.lines()
            if child.wait():
                assert [] == lines
                assert f"forebay._errors.StoreError: {str(path)!r}" in child.errors()
                refused += 1
                continue
        assert ["drained"] == lines
        if child.injected() == 0:
            break
    assert refused >= 2
