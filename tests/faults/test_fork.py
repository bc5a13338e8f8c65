"""A fork of a program with open buffers: the child's calls raise, the parent's rows are its own."""

from __future__ import annotations

from pathlib import Path

from tests.faults.harness import Zygote, read


def test_the_calls_of_a_forked_child_raise(zygote: Zygote, tmp_path: Path) -> None:
    """Whatever the child tries, it is told so; of the rows there are only the parent's, once."""
    path = tmp_path / "a.db"
    with zygote.run("forking.py", path, "try") as program:
        *tried, last = program.lines()
        assert ("drained", 0) == (last, program.wait()), program.errors()
    assert {"RuntimeError"} == {line.split()[-1] for line in tried}, tried
    assert [("parent", 0, 0)] == read(path, "SELECT * FROM entries")
    assert [("parent", 0), ("parent", 1)] == read(path, "SELECT * FROM events")


def test_a_forked_child_inherits_nothing_that_is_pending(zygote: Zygote, tmp_path: Path) -> None:
    """A child that leaves the block neither writes, names nor spills its parent's entries."""
    path = tmp_path / "a.db"
    with zygote.run("forking.py", path, "leave") as program:
        assert (["child 7"], 0) == (program.lines(), program.wait())
        assert "FlushError" not in program.errors()
    assert [] == read(path, "SELECT * FROM entries")
    assert [] == list(tmp_path.glob("*.spill*"))
