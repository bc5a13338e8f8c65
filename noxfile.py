"""What is run on this project: `nox -l` lists it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["tests", "lint", "typing"]

PROJECT = nox.project.load_toml("pyproject.toml")
EXTRAS = ",".join(PROJECT["project"]["optional-dependencies"])


def group(name: str) -> list[str]:
    """Give the packages of a dependency group."""
    return list(nox.project.dependency_groups(PROJECT, name))


def installed_pythons() -> list[str]:
    """Give the supported versions whose interpreter really starts on this machine."""
    versions = nox.project.python_versions(PROJECT)
    return [version for version in versions if _starts(f"python{version}")]


def _starts(interpreter: str) -> bool:
    path = shutil.which(interpreter)
    return path is not None and subprocess.run([path, "-c", ""], check=False).returncode == 0  # noqa: S603  # from PATH


@nox.session(python=installed_pythons())
def tests(session: nox.Session) -> None:
    """Run the tests on the built package, on each Python that is installed."""
    # Not editable: what is tested is what would be published.
    session.install(f".[{EXTRAS}]", *group("tests"))
    session.run("pytest", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the tests and report the lines and branches that none of them reaches."""
    session.install(f".[{EXTRAS}]", *group("tests"))
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "report")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format."""
    session.install(*group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def typing(session: nox.Session) -> None:
    """Check types: mypy and pyright, both strict, and that the public API is typed throughout."""
    session.install(f".[{EXTRAS}]", *group("typing"))
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "--ignoreexternal", "--verifytypes", "forebay")


@nox.session
def build(session: nox.Session) -> None:
    """Build the source distribution and the wheel, for a release."""
    session.install("build", "twine")
    shutil.rmtree(Path("dist"), ignore_errors=True)
    session.run("python", "-m", "build")
    session.run("twine", "check", "--strict", *map(str, Path("dist").glob("*")))
