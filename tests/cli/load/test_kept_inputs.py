"""Standard input and pipes are read twice for --alter."""

from __future__ import annotations

import gzip
import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from forebay.cli._load.kept_inputs import KeptInputs
from tests.cli.load.runner import query

ROWS = 12_000
"""More than the rows by which the types are detected."""
LINES = "".join(
    json.dumps({"id": number, "late": number / 2} if number > 11_500 else {"id": number}) + "\n"
    for number in range(ROWS)
).encode()


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load_standard_input(
    data: bytes, *arguments: str, preexec: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "forebay", "load", "-", "--format", "ndjson", "--alter"]
    command += ["--database", "a.db", "--table", "t", *arguments]
    return subprocess.run(command, input=data, capture_output=True, preexec_fn=preexec, check=False)


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_late_keys_of_a_pipe_become_columns(compress: Callable[[bytes], bytes]) -> None:
    """Each row is loaded once."""
    assert 0 == load_standard_input(compress(LINES)).returncode
    assert [(ROWS, sum(range(ROWS)), 499)] == query("SELECT count(*), sum(id), count(late) FROM t")
    assert [("id", "INTEGER"), ("late", "REAL")] == query(
        "SELECT name, type FROM pragma_table_info('t')"
    )


def test_late_keys_of_a_redirected_file_become_columns() -> None:
    """It is read from the place where the process before has left it, not from its beginning."""
    Path("in.ndjson").write_bytes(b"a line for another program\n" + LINES)
    command = [sys.executable, "-m", "forebay", "load", "-", "--format", "ndjson", "--alter"]
    with Path("in.ndjson").open("rb", buffering=0) as file:
        file.readline()
        arguments = ["--database", "a.db", "--table", "t", "--quiet"]
        assert 0 == subprocess.run([*command, *arguments], stdin=file, check=False).returncode
    assert [(ROWS, sum(range(ROWS)), 499)] == query("SELECT count(*), sum(id), count(late) FROM t")


def test_a_disk_without_room_for_the_copy_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says where the copy is, and how to put it elsewhere. Nothing is loaded."""
    # The limit would also cut the data file of nox -s coverage, which could not be read then.
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)

    def limit_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    result = load_standard_input(LINES, preexec=limit_files)
    assert 2 == result.returncode
    assert "where --alter keeps what it reads" in result.stderr.decode()
    assert "TMPDIR names another folder" in result.stderr.decode()


def test_a_pipe_may_be_opened_again_until_nothing_more_is_kept() -> None:
    """What was read is kept for each reader. Then the rest is read once."""
    os.mkfifo("fifo")
    with KeptInputs() as inputs:
        writer = threading.Thread(target=lambda: Path("fifo").write_bytes(LINES))
        writer.start()
        first = inputs.open("fifo")
        start = first.read(1_000)
        second = inputs.open("fifo")
        assert (LINES[:1_000], LINES[:70_000]) == (start, second.read(70_000))
        inputs.stop_keeping()
        assert LINES[1_000:] == first.read()
        writer.join()


def test_a_file_is_not_kept() -> None:
    """It is opened anew."""
    Path("a").write_bytes(b"text")
    with KeptInputs() as inputs, inputs.open("a") as first, inputs.open("a") as second:
        assert (b"te", b"text", b"xt") == (first.read(2), second.read(), first.read())
