"""`forebay.cli.main`: the exit codes and messages of every command."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from forebay import cli
from forebay.cli._command import command

COMMANDS = [
    "alerts export",
    "backup a.db b.db",
    "dashboard export",
    "doctor a.db",
    "doctor a.db --json",
    "dead-letters list a.db",
    "dead-letters list a.db --json",
    "dead-letters show a.db 1 --json",
    "dead-letters replay a.db",
    "dead-letters purge a.db --older-than 1s",
    "load --help",
    "--version",
]


class Interrupting(MetaPathFinder):
    """Ctrl-C arrives while Python looks for the module of the command."""

    def find_spec(self, fullname: str, path: object, target: ModuleType | None = None) -> None:
        del path, target
        if fullname == "forebay.cli._command":
            raise KeyboardInterrupt


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Create the database a.db in an empty current folder."""
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("a.db")) as connection:
        connection.execute("CREATE TABLE t (a)")


@contextmanager
def started(
    command: str, *, unbuffered: bool = False, stdout: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command, with Python's standard streams buffered, as they are by default, or not."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    if unbuffered:
        environment["PYTHONUNBUFFERED"] = "1"
    arguments = [sys.executable, "-m", "forebay", *command.split()]
    with subprocess.Popen(
        arguments, stdout=stdout, stderr=subprocess.PIPE, env=environment
    ) as process:
        yield process


def test_sigint_during_the_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code is 130, and there is no traceback."""
    monkeypatch.delitem(sys.modules, "forebay.cli._command", raising=False)
    monkeypatch.delattr(cli, "_command", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert 130 == caught.value.code


def test_a_command_imports_only_what_it_needs(tmp_path: Path) -> None:
    """A load needs neither the other commands, nor ClickHouse, nor what draws on a terminal."""
    (tmp_path / "in.csv").write_text("a\n1\n")
    program = (
        "import atexit, sys; from forebay import cli;"
        "atexit.register(lambda: print(*sys.modules));"
        "sys.argv = ['forebay', 'load', 'in.csv', '--database', 'a.db', '--table', 't', '--quiet'];"
        "cli.main()"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    imported = {name for name in done.stdout.split() if name.startswith("forebay.cli._")}
    assert {"_command", "_load", "_errors", "_failures", "_output", "_signals"} == {
        name.split(".")[2] for name in imported
    }
    assert not {"forebay.stores.clickhouse", "httpx", "rich"} & set(done.stdout.split())


def test_help_lists_all_commands_in_their_order() -> None:
    """With what each does. An unknown one is an error."""
    result = CliRunner().invoke(command, ["--help"])
    commands = result.stdout.partition("Commands:\n")[2].splitlines()
    names = ["alerts", "backup", "dashboard", "dead-letters", "doctor", "load", "spool", "top"]
    assert names == [line.split()[0] for line in commands]
    assert all(len(line.split()) > 2 for line in commands)
    assert 2 == CliRunner().invoke(command, ["lod"]).exit_code


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("command", COMMANDS)
def test_output_that_cannot_be_written(command: str, unbuffered: bool) -> None:
    """On a full disk the exit code is 1, and one line has the reason."""
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with started(command, unbuffered=unbuffered, stdout=full) as process:
            _, errors = process.communicate()
    finally:
        os.close(full)
    *others, last = errors.decode().splitlines()
    assert "Error: the output could not be written: [Errno 28] No space left on device" == last
    assert [] == [line for line in others if line != "Error: there is no dead letter 1"]
    assert 1 == process.returncode


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("command", ["doctor a.db", "doctor a.db --json", "alerts export"])
def test_a_pipe_that_the_reader_closed(command: str, unbuffered: bool) -> None:
    """If the reader closes the pipe, the exit code is 141, without a message."""
    with started(command, unbuffered=unbuffered) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        messages = process.stderr.read()
    assert (141, b"") == (process.returncode, messages)


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("command", ["doctor a.db", "load nope --database a.db --table t"])
def test_messages_that_cannot_be_written(command: str) -> None:
    """On a full disk, lost messages on standard error do not change the exit code."""
    with Path("/dev/full").open("wb") as full:
        codes = [
            subprocess.run(
                [sys.executable, "-m", "forebay", *command.split()],
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                check=False,
            ).returncode
            for stderr in (full, subprocess.PIPE)
        ]
    assert codes[0] == codes[1]


@pytest.mark.usefixtures("database")
def test_a_closed_output() -> None:
    """A command without a standard output does its work."""
    command = [
        "sh",
        "-c",
        'exec "$@" >&-',
        "sh",
        sys.executable,
        "-m",
        "forebay",
        "alerts",
        "export",
    ]
    done = subprocess.run(command, capture_output=True, check=False)
    assert (0, b"") == (done.returncode, done.stderr)


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    "arguments",
    [
        ["lo\x1b[31mad"],
        ["load", "--\x1b[31m"],
        ["load", "in\x1b[31m\x9b\u202e\udcff.csv", "--database", "b.db", "--table", "t"],
        ["load", "no\x1b[31m\x9b\u202e\udcff.csv", "--database", "b.db", "--table", "t"],
        ["load", "in\x1b[31m\x9b\u202e\udcff.txt", "--database", "b.db", "--table", "t"],
        ["load", "in\x1b[31m\x9b\u202e\udcff.csv", "--database", "\x1b\u202e/b.db", "--table", "t"],
        ["load", "in\x1b[31m\x9b\u202e\udcff.csv", "--database", "b.db", "--table", "\x1b\u202e\n"],
        ["doctor", "\x1b[31m\u202e"],
    ],
    ids=repr,
)
def test_no_name_controls_the_terminal(arguments: list[str]) -> None:
    """Control characters in names of files, tables and options are escaped in every message."""
    for name in ("csv", "txt"):
        Path(f"in\x1b[31m\x9b\u202e\udcff.{name}").write_text("a\n1\n")
    done = subprocess.run(
        [sys.executable, "-m", "forebay", *map(os.fsencode, arguments)],
        capture_output=True,
        check=False,
    )
    for text in (done.stdout.decode(), done.stderr.decode()):
        assert "" == "".join(c for c in text if c != "\n" and not c.isprintable())
    assert b"Traceback" not in done.stderr
