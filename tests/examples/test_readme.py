"""The list of examples in their README."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.examples.programs import EXAMPLES, ROOT, run_section
from tests.telemetry.collector import free_port

PROGRAMS = sorted(path.name for path in EXAMPLES.glob("*.py"))


def test_the_readme_lists_each_program() -> None:
    """Each program has a line in the table, and a file of tests."""
    listed = re.findall(r"^\| \[(\w+\.py)\]", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert PROGRAMS == sorted(listed)
    for name in PROGRAMS:
        assert (ROOT / "tests" / "examples" / f"test_{name}").exists()


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_short(name: str) -> None:
    """People read the whole of it before they copy it."""
    assert len((EXAMPLES / name).read_text().splitlines()) <= 120


def test_the_build_cache(tmp_path: Path) -> None:
    """The commands of the README print what it says."""
    run_section("A build cache", tmp_path, {"8080": str(free_port())})
