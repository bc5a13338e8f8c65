"""`forebay top`: on a program that runs, one that ends, and where there is none."""

from __future__ import annotations

import dataclasses
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio
from click.testing import CliRunner, Result
from rich.console import Console

from forebay import Buffers, BufferStatistics, Table, open_buffers, serve_statistics
from forebay.cli._command import command
from forebay.cli._top import _view
from forebay.cli._watch import COLUMNS, Snapshot, Watch
from forebay.testing import MemoryStore


class Pair(NamedTuple):
    k: int
    v: int = 0


# A shell that starts the tests in the background has its children ignore SIGINT.
_MAIN = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from forebay.cli import main; main()"
)

PAIRS = Table(Pair, name="pairs", key="k")
OTHERS = Table(Pair, name="others", key="k")

NOTHING: dict[str, Any] = {
    **{field.name: 0 for field in dataclasses.fields(BufferStatistics)},
    "last_error": None,
}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return "statistics.sock"


@asynccontextmanager
async def served(path: str) -> AsyncIterator[Buffers]:
    async with (
        open_buffers(MemoryStore(), PAIRS, OTHERS) as buffers,
        serve_statistics(path, buffers),
    ):
        await buffers[PAIRS].enqueue_many([Pair(1), Pair(1), Pair(2)])
        await buffers.flush()
        yield buffers


async def top(*arguments: str, columns: int = 140) -> Result:
    run = partial(CliRunner(env={"COLUMNS": str(columns)}).invoke, command, ["top", *arguments])
    return await trio.to_thread.run_sync(run)


async def test_once_prints_a_line_a_buffer(path: str) -> None:
    """With every heading, and the course of each number: what is no terminal has no width."""
    async with served(path):
        result = await top(path, "--once", "--interval", "0.1", columns=20)
    assert 0 == result.exit_code, result.output
    lines = result.output.splitlines()
    assert ["pairs", "others"] == [line.split()[0] for line in lines if line[:1] in "po"]
    above, below = (line.split() for line in lines[1:3])
    assert ["accepted", "super-", "flush", "flush", "dead"] == above
    assert [
        *("buffer", "pending", "/s", "rows/s", "seded", "p50", "p99"),
        *("retries", "letters", "oldest"),
    ] == below
    assert 18 == result.output.count("▁") + result.output.count("█")


def watched(buffers: int, **changes: Any) -> Watch:
    """Give a watch that has seen so many buffers twice, each fuller than the one before."""
    watch = Watch()
    for time in (1.0, 2.0):
        names = [f"a_long_name_of_buffer_{n}" for n in range(buffers)]
        told = {name: {**NOTHING, "pending": n, **changes} for n, name in enumerate(names)}
        watch.add(Snapshot(time, told))
    return watch


def drawn(watch: Watch, width: int, height: int | None = None, path: str = "a.sock") -> list[str]:
    console = Console(file=StringIO(), width=width)
    with console.capture() as capture:
        console.print(_view(path, watch, width, height))
    return capture.get().splitlines()


@pytest.mark.parametrize("width", [1, 10, 20, 40, 60, 79, 80, 81, 90, 100, 120, 200])
def test_it_is_as_wide_as_the_terminal(width: int) -> None:
    """It has the columns for which there is room, and cuts no heading and no number short."""
    lines = drawn(watched(2), width)
    assert all(len(line) <= width for line in lines)
    assert 7 == len(lines) or width < 20
    if width >= 40:
        assert "pending" in lines[2]
        assert "letters" in lines[2]
        assert "…" not in "".join(line[20:] for line in lines)


def test_on_eighty_columns_there_is_all() -> None:
    """So wide are most terminals when they open; each number may be as long as they get."""
    longest = {
        **dict.fromkeys(("pending", "committed", "accepted", "retries", "dead_lettered"), 99_999),
        **dict.fromkeys(("flush_p50", "flush_p99"), 0.0123),
        "oldest_age": 59_000.0,
    }
    [_, _, heads, row, *_] = drawn(watched(2, **longest), 80)
    assert 10 == len(heads.split()) == len(COLUMNS) + 1
    assert ["99,999", "0", "0", "0%", "12.3", "ms", "12.3", "ms", "99,999", "99,999", "983"] == (
        row.split()[1:-1]
    )
    assert 9 == len(drawn(watched(2), 79)[2].split())


def test_what_a_buffer_waits_for_is_below() -> None:
    """A line for each, where there is room; and what would command a terminal is shown escaped."""
    watch = watched(3, last_error="SQLITE_BUSY: \x1b[2Jlocked")
    waits = "a_long_name_of_buffer_0 waits: SQLITE_BUSY: \\x1b[2Jlocked"
    lines = drawn(watch, 80)
    assert 3 + 2 * 3 + 3 == len(lines)
    assert waits == lines[9].rstrip()
    assert 11 == len(drawn(watch, 80, height=11))
    assert 3 + 2 * 3 == len(drawn(watch, 80, height=9))
    assert 6 == len(drawn(watch, 80, height=6))
    assert 4 == len(drawn(watch, 80, height=2))
    assert 10 == len(drawn(watch, 30, height=10))
    assert "…" == drawn(watch, 30, height=10)[-1].rstrip()[-1]


def test_a_name_commands_no_terminal() -> None:
    """Nor does the path: characters that are not to be printed are shown escaped."""
    watch = Watch()
    for time in (1.0, 2.0):
        watch.add(Snapshot(time, {"a\x1b[2J\nb": NOTHING}))
    title, _, _, row, *_ = drawn(watch, 140, path="\x07.sock")
    assert ("\\x07.sock", "a\\x1b[2J\\nb") == (title.strip(), row.split()[0])


def test_a_low_terminal_has_numbers_alone() -> None:
    """Where two lines a buffer are too many, the sparklines go."""
    assert 3 + 2 * 8 == len(drawn(watched(8), 100, height=19))
    assert 3 + 8 == len(drawn(watched(8), 100, height=18))


def test_a_terminal_too_low_for_all_shows_the_fullest() -> None:
    """And says that there are more."""
    title, _, _, *rows = drawn(watched(64), 100, height=6)
    assert "a.sock: the 3 fullest of 64 buffers" == title.strip()
    assert ["61", "62", "63"] == [row.split()[1] for row in rows]


def test_names_are_shown_as_they_are() -> None:
    """A name that looks like markup of the library's is a name."""
    watch = Watch()
    names = ("[b]x[/b]", "a[/]b")
    for time in (1.0, 2.0):
        watch.add(Snapshot(time, dict.fromkeys(names, NOTHING)))
    title, _, _, one, _, other, _ = drawn(watch, 100, path="[/].sock")
    assert ("[/].sock", *names) == (title.strip(), one.split()[0], other.split()[0])


async def test_it_ends_with_the_program(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the program closes its buffers that is no error; on a terminal it says so."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    results: list[Result] = []

    async def watch() -> None:
        results.append(await top(path, "--interval", "0.1"))

    async with trio.open_nursery() as nursery, open_buffers(MemoryStore(), PAIRS) as buffers:
        counted = Counted(buffers)
        async with serve_statistics(path, counted):
            nursery.start_soon(watch)
            await counted.asked_thrice.wait()
    [result] = results
    assert 0 == result.exit_code, result.output
    assert f"{path}: the program has closed its buffers" in result.output
    assert "pairs" in result.output


class Counted(Buffers):
    """Buffers that know how often their statistics were asked for."""

    def __init__(self, buffers: Buffers) -> None:
        super().__init__(buffers._workers)
        self.asked_thrice = trio.Event()
        self._asked = 0

    def statistics(self) -> dict[str, object]:  # type: ignore[override]
        self._asked += 1
        if self._asked == 3:
            self.asked_thrice.set()
        return {**super().statistics()}


async def test_where_nothing_serves_it_says_so(path: str) -> None:
    """No such socket, or a file of another kind, is a usage error."""
    Path("a.txt").write_text("")
    for name in (path, "a.txt"):
        result = await top(name)
        assert 2 == result.exit_code
        assert f"Error: no program can be watched at {name!r}" in result.output


@asynccontextmanager
async def impostor(
    path: str, answer: Callable[[trio.SocketStream], Awaitable[None]]
) -> AsyncIterator[None]:
    """Serve something else at the path."""
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(path)
    sock.listen()

    async def run(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            await answer(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, run, [trio.SocketListener(sock)])
        yield
        nursery.cancel_scope.cancel()


def told(time: float = 1.0, **changes: Any) -> bytes:
    """Give an answer of a program with one buffer."""
    answer = {"time": time, "buffers": {"pairs": {**NOTHING, **changes}}}
    return json.dumps(answer).encode() + b"\n"


@pytest.mark.parametrize(
    "answered",
    [
        b"220 ready\n",
        b"[]\n",
        b'{"time": 1.0, "buffers": []}\n',
        b'{"time": 1.0, "buffers": {"pairs": {"pending": 1}}}\n',
        b'{"time": 1.0, "buffers": ' + b"[" * 100_000 + b"\n",
        told(pending=10**400),
        told(pending=float("nan")),
        told(last_error=1),
    ],
)
async def test_what_answers_otherwise_is_told_apart(answered: bytes, path: str) -> None:
    """A socket of another program, or of another version of forebay, is not mistaken for ours."""

    async def answer(stream: trio.SocketStream) -> None:
        while await stream.receive_some():
            await stream.send_all(answered)

    async with impostor(path, answer):
        result = await top(path, "--once", "--interval", "0.1")
    assert 2 == result.exit_code
    assert f"what answers at {path!r} is no program with this version of forebay" in result.output


@pytest.mark.parametrize("answer", [b"", b"null\n", b'{"time": 1.0, "buf'])
async def test_a_program_that_ends_before_it_answered_is_told(answer: bytes, path: str) -> None:
    """In order, or by closing the connection at once, or in the middle of its answer."""

    async def close(stream: trio.SocketStream) -> None:
        if answer:
            await stream.receive_some()
            await stream.send_all(answer)

    async with impostor(path, close):
        result = await top(path, "--interval", "0.1")
    assert 2 == result.exit_code, result.output
    assert f"the program at {path!r} ended, or closed the connection, before it answered" in (
        result.output
    )


async def test_an_answer_without_end_is_refused(path: str) -> None:
    """What answers is not read for as long as it likes to send."""

    async def flood(stream: trio.SocketStream) -> None:
        while True:
            await stream.send_all(b"x" * 100_000)

    async with impostor(path, flood):
        result = await top(path)
    assert 2 == result.exit_code, result.output
    assert "is no program with this version of forebay" in result.output


async def test_a_program_that_ends_without_farewell_is_lost(path: str) -> None:
    """It was killed, it may be: that is not the end in order, and the exit code tells so."""

    async def die(stream: trio.SocketStream) -> None:
        for time in (1.0, 2.0):
            await stream.receive_some()
            await stream.send_all(told(time=time))

    async with impostor(path, die):
        result = await top(path, "--interval", "0.1")
    assert 1 == result.exit_code, result.output
    assert "pairs" in result.output
    assert f"the program at {path!r} ended without closing its buffers" in result.output


@pytest.mark.parametrize("together", [True, False])
async def test_a_farewell_is_found_wherever_it_lies(together: bool, path: str) -> None:
    """In one piece with the last answer, or behind it, when the socket takes no question more."""

    async def end(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(told(time=1.0))
        await stream.receive_some()
        await stream.send_all(told(time=2.0) + b"null\n" * together)
        if not together:
            await stream.send_all(b"null\n")

    async with impostor(path, end):
        result = await top(path, "--interval", "0.2")
    assert 0 == result.exit_code, result.output
    assert f"{path}: the program has closed its buffers" in result.output


async def test_once_needs_two_answers(path: str) -> None:
    """Where the program ends in order after the first, there is nothing to print."""

    async def end(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(told() + b"null\n")

    async with impostor(path, end):
        result = await top(path, "--once", "--interval", "0.1")
    assert 2 == result.exit_code, result.output
    assert "the program has closed its buffers before its second answer" in result.output


async def test_an_output_that_cannot_be_written_is_told(path: str) -> None:
    """In one line, with exit code 1."""
    async with served(path):
        with Path("/dev/full").open("wb") as full:
            done = await trio.run_process(
                [sys.executable, "-c", _MAIN, "top", path, "--once", "--interval", "0.1"],
                stdout=full,
                capture_stderr=True,
                check=False,
            )
    expected = b"Error: the output could not be written: [Errno 28] No space left on device\n"
    assert (1, expected) == (done.returncode, done.stderr)


async def test_ctrl_c_ends_it_in_order(path: str) -> None:
    """On a real terminal: it shows the buffers, and SIGINT is the way out, not an error."""
    ours, theirs = pty.openpty()
    async with served(path):
        process = subprocess.Popen(
            [sys.executable, "-c", _MAIN, "top", path],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "COLUMNS": "140", "TERM": "xterm"},
        )
        os.close(theirs)
        shown = b""
        with trio.fail_after(60):
            while "▁".encode() not in shown:
                shown += await trio.to_thread.run_sync(os.read, ours, 4096)
            process.send_signal(signal.SIGINT)
            assert 0 == await trio.to_thread.run_sync(process.wait)
    os.close(ours)
    assert b"pairs" in shown
    assert b"Traceback" not in shown
