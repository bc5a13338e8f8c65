"""`forebay load` as a process: standard input, signals, exit codes."""

from __future__ import annotations

import gzip
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
from tests.cli.load.runner import locked

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
    """A running load, with its standard input open."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.messages = ""

    def feed(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def wait_for(self, text: str) -> None:
        """Read its messages until one contains the text."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.messages += line.decode()
            if text in line.decode():
                return
        pytest.fail(f"the load ended without the message {text!r}: {self.messages}")

    def end(self) -> tuple[int, str]:
        """Wait until it exits, with its input open, and return its exit code and its summary."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        summary = self.process.stdout.read().decode()
        self.messages += self.process.stderr.read().decode()
        return self.process.wait(60), summary


@contextmanager
def loading(*arguments: str, new: bool = False) -> Iterator[Loading]:
    """Start a load into a table that exists, so that its rows need not fill a sample, or not."""
    if not new:
        with closing(sqlite3.connect("a.db")) as connection:
            connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
    pipe = subprocess.PIPE
    command = [*LOAD, "-", *INTO, *arguments]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            yield Loading(process)
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_a_signal_ends_the_load_and_loses_nothing(number: signal.Signals, code: int) -> None:
    """The accepted rows are committed, and the exit code is that of the signal."""
    # With an infinite interval, only the drain commits these rows.
    with loading("--flush-interval", "inf", "--batch-size", "20000") as load:
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
    """Before the first row there is nothing to drain, and no database is created."""
    with loading(new=True) as load:
        load.feed(b"id,v\n")
        load.wait_for("reading standard input")
        load.process.send_signal(signal.SIGTERM)
        exit_code, _ = load.end()
    assert 143 == exit_code
    assert not Path("a.db").exists()


def test_a_second_signal_gives_up_and_names_what_is_left() -> None:
    """A drain that is blocked ends at once, and the rows that are not in the table are printed."""
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
    assert "Error: the rows were not written to table 't' in time: SQLITE_BUSY: " in load.messages
    assert "20 rows accepted, and not in the table:\n" in load.messages
    assert "drain_timeout" not in load.messages
    assert "(10, 'x')\n(11, 'x')\n(12, 'x')\n...\n(27, 'x')\n(28, 'x')\n(29, 'x')" in load.messages


def test_a_load_shows_why_it_retries() -> None:
    """Another program holds the lock for a while. Then all rows are loaded."""
    with loading() as load:
        load.feed(b"id,v\n" + rows(0, 10))
        load.wait_for(", 0 pending")
        with locked():
            load.feed(rows(10, 30))
            load.wait_for("20 pending, retrying after SQLITE_BUSY: database is locked")
        load.wait_for(", 0 pending")
        assert 30 == count()


def test_a_load_shows_that_the_database_does_not_open() -> None:
    """Another program holds the lock before any row is pending."""
    with loading() as load, locked():
        load.feed(b"id,v\n" + rows(0, 10))
        load.wait_for("waiting for the database a.db to open; another program may have locked it")


def test_rows_are_committed_while_the_pipe_is_open() -> None:
    """Rows that have arrived do not wait for the rows after them."""
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
    """As CSV unless --format or a name in an archive says otherwise, and decompressed."""
    done = run([*LOAD, "-", *INTO, *arguments], data)
    messages = b"reading standard input\nloading into table t of a.db\n"
    assert (0, messages) == (done.returncode, done.stderr)
    with closing(sqlite3.connect("a.db")) as connection:
        assert [(1, "x")] == connection.execute("SELECT * FROM t").fetchall()


def test_a_closed_standard_input_is_an_error() -> None:
    """The message names the reason, without a traceback."""
    command = ["sh", "-c", 'exec "$@" <&-', "sh", *LOAD, "-", *INTO]
    done = run(command)
    assert 2 == done.returncode
    assert done.stderr.endswith(b"\nError: standard input: cannot be read: Bad file descriptor\n")


@pytest.mark.parametrize("missing", ["click", "msgspec", "rich"])
def test_without_the_extra_the_command_names_it(missing: str) -> None:
    """One line, and exit code 2."""
    code = f"import sys; sys.modules[{missing!r}] = None; from forebay.cli import main; main()"
    done = run([sys.executable, "-c", code])
    message = (
        "The forebay command needs the packages click, msgspec and rich. To install them, run: "
    )
    assert (2, f"{message}pip install 'forebay[cli]'\n") == (done.returncode, done.stderr.decode())


def test_the_command_is_installed() -> None:
    """`forebay` prints its version."""
    script = Path(sys.executable).with_name("forebay")
    done = run([str(script), "--version"])
    assert (0, b"forebay, version ") == (done.returncode, done.stdout[:17])


def test_a_summary_that_cannot_be_printed_does_not_fail_the_load() -> None:
    """The rows are in the table, so the exit code is 0, and one line has the reason."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*LOAD, "-", *INTO],
            input=b"id,v\n1,x\n",
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert 0 == done.returncode
    assert b"The summary is not printed: " in done.stderr.splitlines()[-1]
    assert b"Traceback" not in done.stderr
    assert 1 == count()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/status is Linux's")
@pytest.mark.parametrize(
    ("name", "content", "code", "message"),
    [
        (
            "in.ndjson.gz",
            b'{"id": 1, "v": [' + b"{}," * (20 * 2**20) + b"{}]}\n",
            2,
            "line 1: the object has more than 1,000,000 values",
        ),
        (
            "in.json.gz",
            b'[{"id": 1, "v": [' + b"{}," * (20 * 2**20) + b"{}]}]",
            2,
            "line 1: the object has more than 1,000,000 values",
        ),
        (
            "in.json.gz",
            b'[{"id": 1, "v": [' + b"1," * (30 * 2**20) + b"1]}]",
            2,
            "line 1: the object has more than 1,000,000 values",
        ),
        ("in.json.gz", b'[{"id": 1, "v": "' + b"x" * (70 * 2**20) + b'"}]', 2, "67,108,864"),
        ("in.json.gz", b'[{"id": 1, "v": "' + b"x" * (30 * 2**20) + b'"}]', 0, ""),
        ("in.csv.gz", b"id,v\n1," + b"," * (60 * 2**20) + b"\n", 2, "more than 32,767 cells"),
        ("in.csv.gz", b"id,v\n1," + b"x" * (30 * 2**20) + b"\n", 0, ""),
        ("in.csv.gz", b"id,v\n1," + b"x" * (70 * 2**20) + b"\n", 2, "longer than 67,108,864"),
    ],
    ids=[
        "nested",
        "nested, array",
        "values, array",
        "too long, array",
        "long, array",
        "cells",
        "long",
        "too long",
    ],
)
def test_a_small_file_needs_bounded_memory(
    name: str, content: bytes, code: int, message: str
) -> None:
    """A few kilobytes of gzip with one long line need less than 600 MiB."""
    Path(name).write_bytes(gzip.compress(content))
    # Not ru_maxrss: a child inherits that of the process that forked it.
    program = (
        "import atexit, pathlib, sys; "
        "from forebay.cli import main; "
        "status = lambda: pathlib.Path('/proc/self/status').read_text(); "
        "kib = lambda: status().partition('VmHWM:')[2].split()[0]; "
        "atexit.register(lambda: print('maximum', kib(), file=sys.stderr)); "
        "main()"
    )
    done = run([sys.executable, "-c", program, "load", name, *INTO])
    *messages, maximum = done.stderr.decode().splitlines()
    assert (code, True) == (done.returncode, message in "\n".join(messages))
    assert int(maximum.split()[1]) < 600 * 1024


def test_the_limit_of_a_line_can_be_set() -> None:
    """A line of this many bytes is loaded, and a longer one ends the load."""
    arguments = [*LOAD, "-", *INTO, "--max-line-bytes", "10"]
    assert 0 == run(arguments, b"id,v\n1,1234567\n").returncode
    done = run(arguments, b"id,v\n1,12345678\n")
    assert 2 == done.returncode
    assert b"line 2: the line is longer than 10 bytes; expected lines of text" in done.stderr
