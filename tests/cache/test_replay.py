"""The replay of a trace finds a wrong row and a wrong file."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from replay.__main__ import check, main
from replay.server import Plan, ReplayReport, replay


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A trace of six hundred requests in the format of the real one, mostly for few keys."""
    draw = random.Random(1)
    sizes = {str(i): draw.randrange(1, 5_000) for i in range(100)}
    lines = ["# time, object, size, next_access_vtime"]
    for i in range(600):
        key = str(int(100 * draw.random() ** 3))
        lines.append(f"{i // 30}, {key}, {sizes[key]}, 0")
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def replayed(trace: Path, folder: Path) -> tuple[Plan, ReplayReport]:
    plan = Plan(trace=trace, requests=None, tasks=20, per_round=100, budget=70_000)
    return plan, trio.run(replay, plan, folder)


def test_a_replay_has_the_expected_result(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints its measurements and the result, and exits with 0."""
    assert 0 == main(["--trace", str(trace), "--tasks", "20", "--per-round", "100"])
    printed = capsys.readouterr().out
    for measured in ("requests/s", "accepted", "written", "coalescing", "evictions", "p50 and p99"):
        assert measured in printed
    assert "nothing missing or extra" in printed


def test_a_replay_evicts(trace: Path, tmp_path: Path) -> None:
    """The budget is smaller than the size of all artifacts."""
    plan, report = replayed(trace, tmp_path / "cache")
    assert [] == check(plan, tmp_path / "cache", report)
    assert 30 < report.evictions
    assert report.requests == len(report.enqueues) == len(report.accesses) == 600
    assert 0 < report.hits < 600


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("DELETE FROM cas_artifacts WHERE key = (SELECT max(key) FROM cas_artifacts)", "missing: "),
        (
            """
            INSERT INTO cas_artifacts (key, size_bytes, last_accessed_at, inserted_at, updated_at)
            VALUES ('new', 1, 1, 1, 1)
            """,
            "extra: new",
        ),
        ("UPDATE cas_artifacts SET size_bytes = size_bytes + 1 WHERE id % 5 = 0", "expected size"),
        ("UPDATE cas_artifacts SET last_accessed_at = 0 WHERE id % 5 = 0", "expected size, last"),
        ("UPDATE cas_artifacts SET inserted_at = -1 WHERE id % 5 = 0", "and first access"),
    ],
)
def test_a_wrong_row_is_found(trace: Path, tmp_path: Path, change: str, words: str) -> None:
    """A missing or extra key, a wrong size, and a wrong last or first access."""
    plan, report = replayed(trace, tmp_path / "cache")
    connection = sqlite3.connect(tmp_path / "cache" / "cache.db")
    connection.execute(change)
    connection.commit()
    connection.close()
    found = check(plan, tmp_path / "cache", report)
    assert found
    assert words in found[0]


def remove(path: Path) -> None:
    path.unlink()


def grow(path: Path) -> None:
    path.write_bytes(b"x" * 10_000)


def add(path: Path) -> None:
    path.with_name("f" * 64).touch()


@pytest.mark.parametrize(
    ("change", "words"),
    [(remove, "no file: "), (grow, "expected a file of"), (add, "extra file: ")],
)
def test_a_wrong_file_is_found(
    trace: Path, tmp_path: Path, change: Callable[[Path], None], words: str
) -> None:
    """A missing file, an extra file, and a file of another size."""
    plan, report = replayed(trace, tmp_path / "cache")
    change(next(path for path in (tmp_path / "cache" / "artifacts").rglob("*") if path.is_file()))
    [found] = check(plan, tmp_path / "cache", report)
    assert words in found
