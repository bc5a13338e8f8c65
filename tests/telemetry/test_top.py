"""`forebay top`: on a program that runs, one that ends, and where there is none."""

from __future__ import annotations

import dataclasses
import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pytest
import trio
from click.testing import CliRunner, Result
from rich.console import Console

from forebay import Buffers, BufferStatistics, Table, open_buffers, serve_statistics
from forebay.cli._command import command
from forebay.cli._top import _table
from forebay.cli._watch import Snapshot, Watch
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

SNAPSHOT = [field.name for field in dataclasses.fields(BufferStatistics)]


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
    assert ["flush", "flush", "dead"] == above
    assert [
        *("buffer", "pending", "accepted/s", "rows/s", "superseded", "p50", "p99"),
        *("retries", "letters", "oldest"),
    ] == below
    assert 18 == result.output.count("▁") + result.output.count("█")


def watched(buffers: int) -> Watch:
    """Give a watch that has seen so many buffers twice, each fuller than the one before."""
    watch = Watch()
    for time in (1.0, 2.0):
        numbers = dict.fromkeys(SNAPSHOT, 0)
        told = {f"a_long_name_of_buffer_{n}": {**numbers, "pending": n} for n in range(buffers)}
        watch.add(Snapshot(time, told))
    return watch


def drawn(watch: Watch, width: int, height: int | None = None, path: str = "a.sock") -> list[str]:
    console = Console(file=StringIO(), width=width)
    with console.capture() as capture:
        console.print(_table(path, watch, width, height))
    return capture.get().splitlines()


@pytest.mark.parametrize("width", [1, 10, 20, 40, 60, 80, 83, 84, 85, 100, 120, 200])
def test_it_is_as_wide_as_the_terminal(width: int) -> None:
    """It has the columns for which there is room, and cuts no heading and no number short."""
    lines = drawn(watched(2), width)
    assert all(len(line) <= width for line in lines)
    assert 7 == len(lines) or width < 20
    if width >= 40:
        assert "pending" in lines[2]
        assert "letters" in lines[2]
        assert "…" not in "".join(line[20:] for line in lines)


def test_on_eighty_columns_there_is_all_but_one() -> None:
    """So wide are most terminals when they open."""
    [_, _, heads, *_] = drawn(watched(2), 80)
    assert 9 == len(heads.split())
    assert 10 == len(drawn(watched(2), 90)[2].split())


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
        watch.add(Snapshot(time, dict.fromkeys(names, dict.fromkeys(SNAPSHOT, 0))))
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


@pytest.mark.parametrize(
    "answered",
    [
        b"220 ready\n",
        b"[]\n",
        b'{"time": 1.0, "buffers": []}\n',
        b'{"time": 1.0, "buffers": {"pairs": {"pending": 1}}}\n',
    ],
)
async def test_what_answers_otherwise_is_told_apart(answered: bytes, path: str) -> None:
    """A socket of another program, or of another version of forebay, is not mistaken for ours."""

    async def answer(stream: trio.SocketStream) -> None:
        while await stream.receive_some():
            await stream.send_all(answered)

    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(path)
    sock.listen()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, [trio.SocketListener(sock)])
        result = await top(path, "--once", "--interval", "0.1")
        nursery.cancel_scope.cancel()
    assert 2 == result.exit_code
    assert f"what answers at {path!r} is no program with this version of forebay" in result.output


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
