"""After a fork, the child cannot use the open buffers, and the parent's rows are written once."""

from __future__ import annotations

from pathlib import Path

from tests.faults.harness import Zygote, read


def test_the_calls_of_a_forked_child_raise(zygote: Zygote, tmp_path: Path) -> None:
    """All of them raise RuntimeError. The tables have the parent's rows only, each once."""
    path = tmp_path / "a.db"
    with zygote.run("forking.py", path, "try") as program:
        *tried, last = program.lines()
        assert ("drained", 0) == (last, program.wait()), program.errors()
    assert {"RuntimeError"} == {line.split()[-1] for line in tried}, tried
    assert [("parent", 0, 0)] == read(path, "SELECT * FROM entries")
    assert [("parent", 0), ("parent", 1)] == read(path, "SELECT * FROM events")


def test_a_forked_child_does_not_write_pending_entries(zygote: Zygote, tmp_path: Path) -> None:
    """When it leaves the block, it does not commit, name or spill the entries of its parent."""
    path = tmp_path / "a.db"
    with zygote.run("forking.py", path, "leave") as program:
        assert (["child 7"], 0) == (program.lines(), program.wait())
        assert "FlushError" not in program.errors()
    assert [] == read(path, "SELECT * FROM entries")
    assert [] == list(tmp_path.glob("*.spill*"))
