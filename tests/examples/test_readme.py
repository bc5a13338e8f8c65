"""The list of examples in their README."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.examples.programs import EXAMPLES, ROOT, run_section
from tests.ports import free_port

README = (EXAMPLES / "README.md").read_text()
PROGRAMS = sorted(path.name for path in EXAMPLES.glob("*.py"))


def test_the_readme_lists_each_program() -> None:
    """Each program has a line in the table, and a file of tests."""
    listed = re.findall(r"^\| \[(\w+\.py)\]", README, re.MULTILINE)
    assert PROGRAMS == sorted(listed)
    for name in PROGRAMS:
        assert (ROOT / "tests" / "examples" / f"test_{name}").exists()


def test_the_install_command_has_every_extra() -> None:
    """The examples use all of them: the build cache needs `cache`, the event log `clickhouse`."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    command = re.search(r"^pip install '\.\[(.*)\]' --group examples$", README, re.MULTILINE)
    assert command is not None
    assert sorted(extras) == command[1].split(",")


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_short(name: str) -> None:
    """People read the whole of it before they copy it."""
    assert len((EXAMPLES / name).read_text().splitlines()) <= 120


def test_the_build_cache(tmp_path: Path) -> None:
    """The commands of the README print what it says."""
    run_section("A build cache", tmp_path, {"8080": str(free_port())})
