"""Facts about a run: machine, versions, date. A figure means little without them."""

from __future__ import annotations

import datetime as dt
import os
import platform
import sqlite3
import subprocess
from importlib import metadata
from pathlib import Path

from benchmarks.harness import DISK

LIBRARIES = (
    "forebay", "trio", "anyio", "aiosqlite", "sqlite-anyio", "apsw", "peewee", "SQLAlchemy",
    "sqlite-utils", "opentelemetry-sdk",
)  # fmt: skip


def facts(folder: Path) -> dict[str, object]:
    """Return machine, versions, date, and the revision of the project.

    Args:
        folder: where the database files are.
    """
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "revision": _revision(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "system": platform.platform(),
        "file system": _file_system(folder),
        "disk": _file_system(DISK),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "libraries": {name: version for name in LIBRARIES if (version := _version(name))},
    }


def _version(library: str) -> str | None:
    try:
        version = metadata.version(library)
    except metadata.PackageNotFoundError:
        return None
    if library == "apsw":
        import apsw  # noqa: PLC0415  # it may not be installed

        version += f" (SQLite {apsw.sqlite_lib_version()})"
    return version


def _revision() -> str:
    here = Path(__file__).parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty"],  # noqa: S607  # the git on PATH
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _file_system(folder: Path) -> str:
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    above = [(len(at), kind) for _, at, kind, *_ in mounts if folder.resolve().is_relative_to(at)]
    return max(above)[1] if above else "unknown"


def resident_memory() -> float:
    """Return the resident memory of this process, in megabytes, from Linux's /proc."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
