"""The harness of the fault tests itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.harness import Zygote


def test_a_child_keeps_the_folders_of_pythonpath(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its libraries may be in them."""
    library = tmp_path / "library"
    library.mkdir()
    (library / "only_in_this_folder.py").write_text("found = True\n")
    program = tmp_path / "program.py"
    program.write_text("import tests, only_in_this_folder\nprint(only_in_this_folder.found)\n")
    monkeypatch.setenv("PYTHONPATH", str(library))
    with Zygote(tmp_path) as zygote, zygote.run(program) as child:
        assert (["True"], 0) == (child.lines(), child.wait()), child.errors()
