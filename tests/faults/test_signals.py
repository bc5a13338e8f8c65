"""The first SIGTERM or SIGINT drains; the second ends the drain and names the entries left."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.faults.harness import Child, Zygote, read

SIGNALS = [signal.SIGTERM, signal.SIGINT]


def accepted(child: Child) -> None:
    assert "accepted" == child.line()


def all_there(path: Path) -> bool:
    counts = read(path, "SELECT (SELECT count(*) FROM entries), (SELECT count(*) FROM events)")
    return [(100, 50)] == counts


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_drains(zygote: Zygote, tmp_path: Path, number: int) -> None:
    """With the recipe of docs/shut-down.md accepted entries are committed; the exit code is 0."""
    path = tmp_path / "a.db"
    with zygote.run("service.py", path, "recipe") as service:
        accepted(service)
        service.kill(number)
        assert (["leaving"], 0) == (service.lines(), service.wait())
    assert all_there(path)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_drain_after_a_signal_waits_for_a_lock(
    zygote: Zygote, tmp_path: Path, number: int
) -> None:
    """A signal during a flush that waits for the lock loses nothing."""
    path = tmp_path / "a.db"
    with zygote.run("service.py", path, "recipe") as service:
        accepted(service)
        with zygote.run("holder.py", path) as holder:
            assert "held" == holder.line()
            service.kill(number)
            assert "leaving" == service.line()
            assert "failed SQLITE_BUSY" == service.line()
            assert not all_there(path)
            holder.send("let go")
            assert "let go" == holder.line()
        assert 0 == service.wait()
    assert all_there(path)


@pytest.mark.parametrize("second", SIGNALS)
@pytest.mark.parametrize("first", SIGNALS)
def test_the_second_signal_ends_the_drain(
    zygote: Zygote, tmp_path: Path, first: int, second: int
) -> None:
    """Long before the deadline. The error has the tables, the counts and the cause."""
    path = tmp_path / "a.db"
    with zygote.run("service.py", path, "recipe") as service:
        accepted(service)
        with zygote.run("holder.py", path) as holder:
            assert "held" == holder.line()
            service.kill(first)
            assert "leaving" == service.line()
            assert "failed SQLITE_BUSY" == service.line()
            service.kill(second)
            assert 1 == service.wait()
        error = service.errors()
    assert not all_there(path)
    for part in (
        "DrainError",
        "'entries': 100 accepted entries",
        "'events': 50 accepted entries",
        "SQLITE_BUSY",
    ):
        assert part in error


def test_ctrl_c_without_a_recipe_drains_too(zygote: Zygote, tmp_path: Path) -> None:
    """Python's own `KeyboardInterrupt` leaves the block, which drains."""
    path = tmp_path / "a.db"
    with zygote.run("service.py", path, "plain") as service:
        accepted(service)
        service.kill(signal.SIGINT)
        assert (["leaving"], 1) == (service.lines(), service.wait())
        assert "KeyboardInterrupt" in service.errors()
    assert all_there(path)


def test_ctrl_c_twice_without_a_recipe_ends_the_drain(zygote: Zygote, tmp_path: Path) -> None:
    """The second `KeyboardInterrupt` arrives during the drain. The error names the entries left."""
    path = tmp_path / "a.db"
    with zygote.run("service.py", path, "plain") as service:
        accepted(service)
        with zygote.run("holder.py", path) as holder:
            assert "held" == holder.line()
            service.kill(signal.SIGINT)
            assert "leaving" == service.line()
            assert "failed SQLITE_BUSY" == service.line()
            service.kill(signal.SIGINT)
            assert 1 == service.wait()
        error = service.errors()
    for part in ("KeyboardInterrupt", "DrainError", "'entries': 100 accepted entries"):
        assert part in error


def test_sigterm_without_a_recipe_does_not_drain(zygote: Zygote, tmp_path: Path) -> None:
    """Python has no handler for SIGTERM; this is why the recipe exists."""
    path = tmp_path / "a.db"
    with zygote.run("service.py", path, "plain") as service:
        accepted(service)
        service.kill(signal.SIGTERM)
        assert ([], -signal.SIGTERM) == (service.lines(), service.wait())
    assert [(0,)] == read(path, "SELECT count(*) FROM entries")
