"""The `forebay top` command: its output, how it ends, its exit codes."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple
from unittest.mock import Mock

import pytest
import trio

from forebay import Buffers, BufferStatistics, Table, open_buffers, serve_statistics
from forebay.testing import MemoryStore
from tests.cli.top.conftest import answer, server
from tests.waiting import TIMEOUT, wait_until_async


class Pair(NamedTuple):
    k: int
    v: int = 0


PAIRS = Table(Pair, name="pairs", key="k")
OTHERS = Table(Pair, name="others", key="k")

# A shell that starts the tests in the background makes their children ignore SIGINT.
COMMAND = (
    sys.executable,
    "-c",
    (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from forebay.cli import main; main()"
    ),
    "top",
)


@asynccontextmanager
async def served(path: str) -> AsyncIterator[Buffers]:
    """Serve the statistics of two buffers, one of which has committed two rows."""
    async with (
        open_buffers(MemoryStore(), PAIRS, OTHERS) as buffers,
        serve_statistics(path, buffers),
    ):
        await buffers[PAIRS].enqueue_many([Pair(1), Pair(1), Pair(2)])
        await buffers.flush()
        yield buffers


async def top(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    with trio.fail_after(2 * TIMEOUT):
        done = await trio.run_process(
            [*COMMAND, *arguments],
            env={**os.environ, "COLUMNS": "140", **environment},
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


async def test_once_prints_one_sample(path: str) -> None:
    """Output that is not a terminal has no width: every column and sparkline is printed."""
    async with served(path):
        done = await top(path, "--once", "--interval", "0.1", COLUMNS="20")
    assert (0, "") == (done.returncode, done.stderr)
    lines = done.stdout.splitlines()
    assert ["pairs", "others"] == [line.split()[0] for line in lines if line[:1] in "po"]
    above, below = (line.split() for line in lines[1:3])
    assert ["accepted", "super-", "flush", "flush", "dead"] == above
    assert [
        *("buffer", "pending", "/s", "rows/s", "seded", "p50", "p99"),
        *("retries", "letters", "oldest"),
    ] == below
    assert 18 == done.stdout.count("▁") + done.stdout.count("█")


def counted(buffers: Buffers) -> tuple[Buffers, trio.Event]:
    """Return a stand-in for buffers, and an event that is set when it is read the third time."""
    reads, read_three_times = count(1), trio.Event()

    def statistics() -> dict[str, BufferStatistics]:
        if next(reads) == 3:
            read_three_times.set()
        return buffers.statistics()

    return Mock(spec=Buffers, statistics=statistics), read_three_times


async def test_the_command_ends_when_the_program_closes_its_buffers(path: str) -> None:
    """This is not an error."""
    done: list[subprocess.CompletedProcess[str]] = []

    async def watch() -> None:
        done.append(await top(path, "--interval", "0.1"))

    async with trio.open_nursery() as nursery, open_buffers(MemoryStore(), PAIRS) as buffers:
        stand_in, read_three_times = counted(buffers)
        async with serve_statistics(path, stand_in):
            nursery.start_soon(watch)
            await read_three_times.wait()
    assert (0, "") == (done[0].returncode, done[0].stderr)
    assert "pairs" in done[0].stdout
    assert done[0].stdout.endswith(f"{path}: the program has closed its buffers\n")


async def test_an_error_before_the_first_answer_has_exit_code_2(path: str) -> None:
    """It is a usage error."""
    done = await top(path)
    assert 2 == done.returncode
    assert f"Error: cannot connect to {path!r}" in done.stderr
    assert "Usage: " in done.stderr


async def test_once_needs_two_answers(path: str) -> None:
    """If the program closes its buffers after the first answer, there is nothing to print."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(answer() + b"null\n")

    async with server(path, serve):
        done = await top(path, "--once", "--interval", "0.1")
    assert (2, "") == (done.returncode, done.stdout)
    assert "closed its buffers before its second answer; --once needs two" in done.stderr


async def test_a_lost_connection_has_exit_code_1(path: str) -> None:
    """A program that was killed does not look like one that closed its buffers."""

    async def serve(stream: trio.SocketStream) -> None:
        for time in (1.0, 2.0):
            await stream.receive_some()
            await stream.send_all(answer(time=time))

    async with server(path, serve):
        done = await top(path, "--interval", "0.1")
    assert (1, True) == (done.returncode, "pairs" in done.stdout)
    assert f"Error: the program at {path!r} ended without closing its buffers\n" == done.stderr


async def test_an_output_that_cannot_be_written_has_exit_code_1(path: str) -> None:
    """The error is one line."""
    async with served(path):
        with Path("/dev/full").open("wb") as full:
            done = await trio.run_process(
                [*COMMAND, path, "--once", "--interval", "0.1"],
                stdout=full,
                capture_stderr=True,
                check=False,
            )
    expected = b"Error: the output could not be written: [Errno 28] No space left on device\n"
    assert (1, expected) == (done.returncode, done.stderr)


@contextmanager
def on_a_terminal(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """Run the command on a pseudoterminal; yield it, the keyboard's end and the program's end."""
    keyboard, program = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=program,
        stdout=program,
        stderr=program,
        env={**os.environ, "COLUMNS": "140", "TERM": "xterm"},
    ) as process:
        try:
            yield process, keyboard, program
        finally:
            process.kill()
            os.close(keyboard)
            os.close(program)


class Screen:
    """What the command has written to a pseudoterminal."""

    def __init__(self, keyboard: int) -> None:
        self.shown = b""
        self._keyboard = keyboard

    async def read(self) -> None:
        """Read all output, so that the command never waits for a reader, until cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._keyboard)
            self.shown += os.read(self._keyboard, 4096)

    async def wait_for(self, text: str) -> None:
        await wait_until_async(
            lambda: text.encode() in self.shown, f"{text!r} is shown", lambda: self.shown
        )


@pytest.mark.parametrize(
    ("action", "exit_code"),
    [("q", 0), ("Q", 0), (signal.SIGINT, 0), (signal.SIGTERM, 128 + signal.SIGTERM)],
)
async def test_a_key_or_a_signal_quits(
    action: str | signal.Signals, exit_code: int, path: str
) -> None:
    """The terminal has its screen and its mode back then."""
    async with served(path), trio.open_nursery() as nursery:
        with on_a_terminal(path, "--interval", "0.1") as (process, keyboard, program):
            before = termios.tcgetattr(program)
            screen = Screen(keyboard)
            nursery.start_soon(screen.read)
            with trio.fail_after(2 * TIMEOUT):
                await screen.wait_for("▁")
                assert before != termios.tcgetattr(program)
                if isinstance(action, str):
                    os.write(keyboard, action.encode())
                else:
                    process.send_signal(action)
                assert exit_code == await trio.to_thread.run_sync(process.wait)
                await screen.wait_for("\x1b[?1049l")  # leaves the alternate screen
            assert before == termios.tcgetattr(program)
            assert b"pairs" in screen.shown
            assert b"Traceback" not in screen.shown
            nursery.cancel_scope.cancel()


async def test_q_quits_while_the_program_does_not_answer(path: str) -> None:
    """A key is read at any time, also before the first sample is shown."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with on_a_terminal(path) as (process, keyboard, program), trio.fail_after(2 * TIMEOUT):
            before = termios.tcgetattr(program)
            connection, _ = await trio.to_thread.run_sync(listener.accept)
            with connection:
                os.write(keyboard, b"q")
                assert 0 == await trio.to_thread.run_sync(process.wait)
            assert before == termios.tcgetattr(program)


async def test_keys_are_left_alone_unless_the_view_is_on_a_terminal(path: str) -> None:
    """With `--once` nothing reads the keyboard: what was typed is for the shell."""
    async with served(path), trio.open_nursery() as nursery:
        with on_a_terminal(path, "--once", "--interval", "0.1") as (process, keyboard, program):
            screen = Screen(keyboard)
            nursery.start_soon(screen.read)
            os.write(keyboard, b"q\n")
            with trio.fail_after(2 * TIMEOUT):
                assert 0 == await trio.to_thread.run_sync(process.wait)
                await screen.wait_for("pairs")
            assert b"q\n" == os.read(program, 10)
            nursery.cancel_scope.cancel()
