"""What the files around the package say of it: the metadata and the workflow of GitHub."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").iterdir())


def pythons() -> list[str]:
    """Return the versions of Python that the classifiers name."""
    pattern = r"Programming Language :: Python :: (3\.\d+)"
    return [found[1] for text in PROJECT["classifiers"] if (found := re.fullmatch(pattern, text))]


def gate() -> dict[str, Any]:
    """Return the job that runs the gate."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    job: dict[str, Any] = workflow["jobs"]["gate"]
    return job


def test_the_workflow_runs_the_gate_on_each_python() -> None:
    """It runs `.ci/run`, on the versions of the classifiers."""
    assert pythons() == gate()["strategy"]["matrix"]["python"]
    assert "bash .ci/run" == gate()["steps"][-1]["run"]
    [setup] = [step for step in gate()["steps"] if "setup-python" in step.get("uses", "")]
    assert "${{ matrix.python }}" == setup["with"]["python-version"]


def test_the_oldest_python_of_the_classifiers_is_the_one_required() -> None:
    """And no version between the oldest and the newest is left out."""
    minors = [int(version.removeprefix("3.")) for version in pythons()]
    assert f">=3.{minors[0]}" == PROJECT["requires-python"]
    assert list(range(minors[0], minors[-1] + 1)) == minors


def test_workflows_have_the_least_permissions() -> None:
    """A workflow has none, and a job may only read the repository."""
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text())
        assert {} == workflow["permissions"]
        for job in workflow["jobs"].values():
            assert {"contents": "read"} == job["permissions"]


def test_actions_are_pinned() -> None:
    """Each action is named by a commit, which nobody can move, with its version in a comment."""
    for path in WORKFLOWS:
        uses = re.findall(r"uses: (.*)", path.read_text())
        assert uses
        for action in uses:
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


def test_the_urls_are_of_one_repository() -> None:
    """It has the name of the project."""
    urls = PROJECT["urls"]
    assert urls["Homepage"].endswith(f"/{PROJECT['name']}")
    assert [] == [url for url in urls.values() if not url.startswith(urls["Homepage"])]


def test_code_that_the_coverage_leaves_out_has_a_reason() -> None:
    """The reason is a comment beside the pragma."""
    pragmas = [
        line.strip()
        for path in sorted((ROOT / "src").rglob("*.py"))
        for line in path.read_text().splitlines()
        if "# pragma:" in line
    ]
    assert pragmas
    for line in pragmas:
        assert re.search(r"  # pragma: no (cover|branch)  # \w.+", line), line
