"""The reason for which tests that need rotel are skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc", reason="needs forebay[otlp]")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs forebay[otlp]")

ROOT = Path(__file__).parents[2]
NEEDS_ROTEL = "tests/otlp/test_collector.py::test_a_collector_receives_the_spans"


@pytest.mark.parametrize(
    ("agent", "reason"),
    [
        (
            "#!/bin/sh\necho libc.so.6: version GLIBC_2.9 not found,\necho a new one >&2\nexit 1\n",
            "exit code 1: libc.so.6: version GLIBC_2.9 not found, a new one",
        ),
        ("#!/missing\n", "cannot be executed: No such file or directory"),
        (None, "not installed: PyPI has no build for this machine"),
    ],
)
def test_the_reason_is_reported_as_a_whole(agent: str | None, reason: str, tmp_path: Path) -> None:
    """Pytest's summary has all of it on one line, whatever the width of the terminal."""
    (tmp_path / "rotel").mkdir()
    (tmp_path / "rotel" / "__init__.py").touch()
    if agent is not None:
        (tmp_path / "rotel" / "rotel-agent").write_text(agent)
        (tmp_path / "rotel" / "rotel-agent").chmod(0o755)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider", NEEDS_ROTEL],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    [line] = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert line.endswith(f": rotel: {reason}")
