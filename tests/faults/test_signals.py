"""SIGTERM and SIGINT: the first drains, the second gives up and names what is left."""

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
    """With the recipe of docs/guide.md, accepted entries are committed, and the program exits 0."""
    path = tmp_path / "a.db"
    with zygote.run("service.py", path, "recipe") as service:
        accepted(service)
        service.kill(number)
        assert (["leaving"], 0) == (service.lines(), service.wait())
    assert all_there(path)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_drain_of_a_signal_waits_for_a_lock(
    zygote: Zygote, tmp_path: Path, number: int
) -> None:
    """A signal in the middle of a flush that cannot go on loses nothing."""
    path = tmp_path / "a.db"
    with zygote.run("service.py", path, "recipe") as service:
        accepted(service)
        with zygote.run("holder.py", path) as holder:
            assert "held" == holder.line()
            service.kill(number)
            assert "leaving" == service.line()
            assert "failed SQLITE_BUSY" == service.line()
            assert not all_there(path)
            holder.tell("let go")
            assert "let go" == holder.line()
        assert 0 == service.wait()
    assert all_there(path)


@pytest.mark.parametrize("second", SIGNALS)
@pytest.mark.parametrize("first", SIGNALS)
def test_the_second_signal_gives_up_and_names_what_is_left(
    zygote: Zygote, tmp_path: Path, first: int, second: int
) -> None:
    """Long before the deadline the program ends, in an error with tables, counts and cause."""
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
    """Python's own `KeyboardInterrupt` leaves the block, and leaving the block drains."""
    path = tmp_path / "a.db"
    with zygote.run("service.py", path, "plain") as service:
        accepted(service)
        service.kill(signal.SIGINT)
        assert (["leaving"], 1) == (service.lines(), service.wait())
        assert "KeyboardInterrupt" in service.errors()
    assert all_there(path)


def test_ctrl_c_twice_without_a_recipe_gives_up(zygote: Zygote, tmp_path: Path) -> None:
    """A second `KeyboardInterrupt`, in the drain, ends it; what is left is named."""
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


def test_sigterm_without_a_recipe_ends_without_the_drain(zygote: Zygote, tmp_path: Path) -> None:
    """Python does nothing on SIGTERM: this is what the recipe is for."""
    path = tmp_path / "a.db"
    with zygote.run("service.py", path, "plain") as service:
        accepted(service)
        service.kill(signal.SIGTERM)
        assert ([], -signal.SIGTERM) == (service.lines(), service.wait())
    assert [(0,)] == read(path, "SELECT count(*) FROM entries")
