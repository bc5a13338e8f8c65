"""A database to examine, and what was found in it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from forebay import Table
from forebay.doctor import Finding, Verdict, examine

HITS = Table.from_columns({"url": str, "count": int}, name="hits", key="url")


def execute(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(script)


async def found(path: Path, check: str, **options: Any) -> list[Finding]:
    """Return the findings of one check."""
    report = await examine(path, **options)
    return [finding for finding in report.findings if finding.check == check]


async def problem(path: Path, check: str, **options: Any) -> Finding:
    """Return the only problem, which must be of this check."""
    report = await examine(path, **options)
    assert not report.healthy
    [finding] = [f for f in report.findings if f.verdict is Verdict.PROBLEM]
    assert check == finding.check
    return finding
