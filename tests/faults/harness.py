"""Child programs with injected faults, and what they leave in the database.

A child program prints a line for each thing that was acknowledged to it. The test reads the lines,
then the file. strace injects the faults: it lets a certain system call on a certain file fail, or
kills the program there, so that every run is the same.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

PATIENCE = 60.0
"""Seconds after which a child is killed, so that a test that hangs ends."""

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"


def _python_path() -> str:
    """Return PYTHONPATH for the children: the project's root, then the current value."""
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


class Child:
    """A running program, and the lines it prints."""

    def __init__(
        self,
        zygote: Zygote,
        pid: int,
        stdin: int,
        stdout: int,
        errors: Path,
        patience: float = PATIENCE,
    ) -> None:
        self.pid = pid
        self.trace = errors.with_suffix(".strace")
        self._zygote = zygote
        self._stdin = os.fdopen(stdin, "w", buffering=1)
        self._stdout = os.fdopen(stdout)
        self._errors = errors
        self._status: int | None = None
        self.timed_out = False
        """Whether the program was killed because it ran for longer than `patience` seconds."""
        self._watchdog = threading.Timer(patience, self._time_out)
        self._watchdog.daemon = True
        self._watchdog.start()

    def send(self, line: str) -> None:
        """Write a line to the program's standard input."""
        self._stdin.write(f"{line}\n")

    def line(self) -> str:
        """Wait for the next line and return it without its end; fail if the program has ended."""
        line = self._stdout.readline()
        assert line, f"the child ended early:\n{self.errors()}"
        return line.rstrip("\n")

    def __iter__(self) -> Iterator[str]:
        """Yield the lines as they arrive, until the output ends."""
        return (line.rstrip("\n") for line in self._stdout)

    def lines(self) -> list[str]:
        """Wait until the output ends, and return the remaining lines."""
        return self._stdout.read().splitlines()

    def errors(self) -> str:
        """Return what the program wrote to standard error."""
        return self._errors.read_text(errors="replace")

    def injected(self) -> int:
        """Return the number of calls that strace failed. Call it when the program has ended."""
        if not self.trace.exists():
            return 0
        return self.trace.read_text(errors="replace").count("(INJECTED)")

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the program."""
        if self._status is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM to the program."""
        self.kill(signal.SIGTERM)

    def _time_out(self) -> None:
        self.timed_out = True
        self._kill_all()

    def _kill_all(self) -> None:
        """Kill the program and its children."""
        if self._status is None:
            os.killpg(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Wait until the program ends; return its exit status, or the negative signal number."""
        if self._status is None:
            self._status = self._zygote.status(self.pid)
            self._watchdog.cancel()
        return self._status

    def close(self) -> None:
        """Kill the program if it still runs."""
        self._kill_all()
        self.wait()
        self._stdin.close()
        self._stdout.close()


class Zygote:
    """The process from which the children are forked."""

    def __init__(
        self, folder: Path, *, patience: float = PATIENCE, preload: str = "tests.faults.tables"
    ) -> None:
        self._folder = folder
        self._patience = patience
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-u", str(Path(__file__).with_name("zygote.py")), preload],
                stdin=theirs.fileno(),
                env={**os.environ, "PYTHONPATH": _python_path()},
            )
        self._count = 0

    def start(
        self, program: str | Path, *arguments: object, patience: float | None = None
    ) -> Child:
        """Fork a child, which waits for the line `go`."""
        self._count += 1
        errors = self._folder / f"{self._count}.err"
        their_stdin, stdin = os.pipe()
        stdout, their_stdout = os.pipe()
        stderr = os.open(errors, os.O_CREAT | os.O_WRONLY, 0o600)
        streams = [their_stdin, their_stdout, stderr]
        request = [str(PROGRAMS / program), *map(str, arguments)]
        socket.send_fds(self._socket, [json.dumps(request).encode()], streams)
        pid = json.loads(self._socket.recv(64))
        for stream in streams:
            os.close(stream)
        return Child(self, pid, stdin, stdout, errors, patience or self._patience)

    def status(self, pid: int) -> int:
        """Wait until a child ends, and return its exit status."""
        self._socket.send(json.dumps(pid).encode())
        return int(json.loads(self._socket.recv(64)))

    def close(self) -> None:
        self._socket.close()
        self._process.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def run(
        self,
        program: str | Path,
        *arguments: object,
        faults: Sequence[Fault] = (),
        after: str | None = None,
        patience: float | None = None,
    ) -> Iterator[Child]:
        """Run a program, under strace if there are faults to inject; kill it at the end.

        Args:
            program: the path of its file, or the name of a file in `programs`.
            *arguments: its arguments.
            faults: the faults to inject.
            after: the line that the program prints before it pauses. The faults begin then. None
                if they begin when the program starts.
            patience: seconds after which the program is killed; None for the zygote's default.
        """
        with closing(self.start(program, *arguments, patience=patience)) as child:
            if after is not None:
                child.send("go")
                assert after == child.line()
            if not faults:
                child.send("go")
                yield child
                return
            with attached(child.pid, faults, child.trace):
                child.send("go")
                yield child
                child.close()  # so that strace ends too


@dataclass(frozen=True)
class Fault:
    """What strace injects into some calls of one system call on a database or its WAL.

    Attributes:
        path: the database.
        call: the system call.
        action: what is injected, such as ``error=EIO`` or ``signal=KILL``.
        when: which calls, counted from 1 in each thread: ``5``, ``5..8``, ``5+``.
        files: which files, as suffixes of the path of the database.
    """

    path: Path
    call: str
    action: str
    when: str
    files: tuple[str, ...] = ("", "-wal")

    def options(self) -> Iterator[str]:
        for suffix in self.files:
            yield f"--trace-path={self.path}{suffix}"
        yield f"--inject={self.call}:{self.action}:when={self.when}"


@contextmanager
def attached(pid: int, faults: Sequence[Fault], log: Path) -> Iterator[None]:
    """Attach strace to a process that waits, to inject faults into its next calls."""
    calls = ",".join({fault.call for fault in faults})
    options = [option for fault in faults for option in fault.options()]
    command = ["strace", "-f", f"--output={log}", f"--attach={pid}", f"--trace={calls}", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        first = tracer.stderr.readline()
        if "attached" not in first:
            raise RuntimeError(f"strace: {first}{tracer.stderr.read()}")
        yield


def why_no_strace(zygote: Zygote) -> str | None:
    """Return why strace cannot be attached to a child on this machine; None if it can."""
    try:
        with zygote.run("idle.py", faults=[Fault(Path("/"), "pwrite64", "error=EIO", "1")]):
            return None
    except FileNotFoundError:
        return "strace is not installed"
    except RuntimeError as error:
        return str(error)


@contextmanager
def mounted(folder: Path, *arguments: str) -> Iterator[Path]:
    """Mount a file system on a new folder, with these arguments of mount(8)."""
    folder.mkdir()
    subprocess.run(["mount", *arguments, folder], check=True, capture_output=True, text=True)
    try:
        yield folder
    finally:
        # Lazily, so that files that a failed test left open do not keep the mount.
        subprocess.run(["umount", "--lazy", folder], check=True)


def why_no_mount(folder: Path) -> str | None:
    """Return why no file system can be mounted on this machine; None if it can."""
    try:
        with mounted(folder / "mount", "-t", "tmpfs", "tmpfs"):
            return None
    except FileNotFoundError:
        return "there is no mount(8)"
    except subprocess.CalledProcessError as error:
        return str(error.stderr).strip()


def read(path: Path, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Query a file as another program would; return no rows if the file or table is missing."""
    if not path.exists():
        return []
    with closing(sqlite3.connect(path, timeout=PATIENCE)) as raw:
        try:
            return raw.execute(sql, parameters).fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname == "SQLITE_ERROR":  # no such table
                return []
            raise
