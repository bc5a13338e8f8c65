"""`forebay load` as a process: standard input, signals, exit codes."""

from __future__ import annotations

import io
import signal
import sqlite3
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import forebay

LOAD = [sys.executable, "-m", "forebay", "load"]
INTO = ["--database", "a.db", "--table", "t", "--key", "id"]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows(first: int, last: int) -> bytes:
    return b"".join(b"%d,x\n" % i for i in range(first, last))


def count() -> int:
    with closing(sqlite3.connect("a.db")) as connection:
        [(number,)] = connection.execute("SELECT count(*) FROM t")
    return int(number)


class Loading:
    """A load whose standard input is open."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.told = ""

    def feed(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def wait_for(self, text: str) -> None:
        """Read what it tells until the text is in a line of it."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.told += line.decode()
            if text in line.decode():
                return
        pytest.fail(f"it ended without telling {text!r}, but: {self.told}")

    def end(self) -> tuple[int, str]:
        """Wait for its end, its input still open; return its exit code and its summary."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        summary = self.process.stdout.read().decode()
        self.told += self.process.stderr.read().decode()
        return self.process.wait(60), summary


@contextmanager
def loading(*arguments: str) -> Iterator[Loading]:
    pipe = subprocess.PIPE
    command = [*LOAD, "-", *INTO, *arguments]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            yield Loading(process)
        finally:
            process.kill()


@contextmanager
def locked() -> Iterator[None]:
    """Hold the write lock of the database, as another program may."""
    with closing(sqlite3.connect("a.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_a_signal_ends_the_load_and_loses_nothing(number: signal.Signals, code: int) -> None:
    """What was accepted is committed, then the exit code tells the signal."""
    # The interval is endless: what is in the table at the end was put there by the drain.
    with loading("--flush-interval", "inf") as load:
        load.feed(b"id,v\n" + rows(0, 5000))
        load.wait_for("5,000 rows")
        assert 0 == count()
        load.process.send_signal(number)
        exit_code, summary = load.end()
    assert code == exit_code
    assert 5000 == count()
    assert ["read 5,000", "committed 5,000"] == [
        " ".join(line.split()) for line in summary.splitlines()[:2]
    ]


def test_a_signal_before_any_row_ends_the_load() -> None:
    """While the first rows are waited for there is nothing to drain."""
    with loading() as load:
        load.feed(b"id,v\n")
        load.wait_for("reading standard input")
        load.process.send_signal(signal.SIGTERM)
        exit_code, _ = load.end()
    assert 143 == exit_code
    assert not Path("a.db").exists()


def test_a_second_signal_gives_up_and_names_what_is_left() -> None:
    """A drain that cannot go on is ended at once; the rows that are in no table are told."""
    with loading() as load:
        load.feed(b"id,v\n" + rows(0, 10))
        load.wait_for("10 rows, ")
        load.wait_for(", 0 pending")
        with locked():
            load.feed(rows(10, 30))
            load.wait_for("20 pending")
            load.process.send_signal(signal.SIGTERM)
            load.wait_for("SIGTERM")
            before = time.monotonic()
            load.process.send_signal(signal.SIGINT)
            exit_code, summary = load.end()
            assert time.monotonic() - before < forebay.BufferOptions().drain_timeout / 2
    assert 143 == exit_code
    assert 10 == count()
    assert "committed 10" in " ".join(summary.split())
    assert "Error: table 't' did not take the rows in time: SQLITE_BUSY: " in load.told
    assert "20 rows are read, and not in the table:\n" in load.told
    assert "drain_timeout" not in load.told
    assert "(10, 'x')\n(11, 'x')\n(12, 'x')\n...\n(27, 'x')\n(28, 'x')\n(29, 'x')" in load.told


def test_a_load_says_what_it_waits_for() -> None:
    """A lock that somebody else has, while it lasts; all is loaded after it."""
    with loading() as load:
        load.feed(b"id,v\n" + rows(0, 10))
        load.wait_for(", 0 pending")
        with locked():
            load.feed(rows(10, 30))
            load.wait_for("20 pending, waiting: SQLITE_BUSY: database is locked")
        load.wait_for(", 0 pending")
        assert 30 == count()


def test_a_load_says_that_the_database_does_not_open() -> None:
    """Before there is a row to be pending."""
    with locked(), loading() as load:
        load.feed(b"id,v\n" + rows(0, 10))
        load.wait_for("waiting for a.db to open: another program may have it locked")


def test_rows_are_written_while_more_are_waited_for() -> None:
    """A pipe that stays open does not hold back what came through it."""
    with loading() as load:
        load.feed(b"id,v\n" + rows(0, 10))
        load.wait_for("10 rows, ")
        load.wait_for(", 0 pending")
        assert 10 == count()


def run(command: list[str], data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, input=data, capture_output=True, check=False)


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("in.tsv", "id\tv\n1\tx\n")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "arguments"),
    [
        (b"id,v\n1,x\n", []),
        (b"id\tv\n1\tx\n", ["--format", "tsv"]),
        (b'{"id": 1, "v": "x"}\n', ["--format", "ndjson"]),
        (zipped(), []),
    ],
    ids=["csv", "tsv", "ndjson", "zip"],
)
def test_standard_input_is_read(data: bytes, arguments: list[str]) -> None:
    """As CSV unless something says otherwise, and unpacked if it is packed."""
    done = run([*LOAD, "-", *INTO, *arguments], data)
    told = b"reading standard input\nloading into table t of a.db\n"
    assert (0, told) == (done.returncode, done.stderr)
    with closing(sqlite3.connect("a.db")) as connection:
        assert [(1, "x")] == connection.execute("SELECT * FROM t").fetchall()


def test_a_closed_standard_input_is_told() -> None:
    """There is nothing to read, and no traceback."""
    command = ["sh", "-c", 'exec "$@" <&-', "sh", *LOAD, "-", *INTO]
    done = run(command)
    assert 2 == done.returncode
    assert done.stderr.endswith(b"\nError: standard input: cannot be read: Bad file descriptor\n")


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_the_command_tells_how_to_get_it(missing: str) -> None:
    """One line, and exit code 2."""
    code = f"import sys; sys.modules[{missing!r}] = None; from forebay.cli import main; main()"
    done = run([sys.executable, "-c", code])
    assert (
        2,
        b"The forebay command needs two more packages: pip install 'forebay[cli]'\n",
    ) == (done.returncode, done.stderr)


def test_the_command_is_installed() -> None:
    """By its name, with its version."""
    script = Path(sys.executable).with_name("forebay")
    done = run([str(script), "--version"])
    assert (0, b"forebay, version ") == (done.returncode, done.stdout[:17])


def test_a_summary_that_cannot_be_printed_is_no_failed_load() -> None:
    """The rows are in the table, so the exit code says so, and there is no traceback."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*LOAD, "-", *INTO],
            input=b"id,v\n1,x\n",
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert 0 == done.returncode
    assert b"the summary could not be printed" in done.stderr
    assert b"Traceback" not in done.stderr
    assert 1 == count()
