"""Start example programs as real processes, and run the commands of `examples/README.md`."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from tests.waiting import TIMEOUT, wait_until

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


class Program:
    """A running program, in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self._output = output

    @property
    def output(self) -> str:
        """What it has printed, to standard output and to standard error."""
        return self._output.read_text()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until it has printed a text that matches, and return the match."""

        def find() -> re.Match[str] | None:
            ended = self.process.poll() is not None
            found = re.search(pattern, self.output, re.MULTILINE)
            assert found or not ended, f"ended without {pattern!r}\n{self.output}"
            return found

        return wait_until(find, f"the output has {pattern!r}", lambda: self.output)

    def wait(self) -> int:
        """Wait until it ends, and return its exit code."""
        wait_until(lambda: self.process.poll() is not None, "the end", lambda: self.output)
        return self.process.wait()

    def terminate(self) -> None:
        """Send SIGTERM, and check that it ends in order."""
        self.process.terminate()
        assert 0 == self.wait(), self.output

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        assert -signal.SIGKILL == self.wait()


@contextmanager
def started(
    command: Sequence[str | Path], folder: Path, variables: Mapping[str, str] | None = None
) -> Iterator[Program]:
    """Start a program in a folder; kill it at the end if it still runs."""
    output = folder / f"output{len(list(folder.glob('output*')))}"
    with (
        output.open("wb") as file,
        subprocess.Popen(
            command,
            cwd=folder,
            env=_environment(variables or {}),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            yield Program(process, output)
        finally:
            process.kill()


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
    return {**kept, "PATH": path, **variables}


def example(name: str, *arguments: str | Path) -> list[str | Path]:
    """Return the command of an example program."""
    return [sys.executable, EXAMPLES / name, *arguments]


def rows(database: Path, sql: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query."""
    with closing(sqlite3.connect(database)) as raw:
        return raw.execute(sql).fetchall()


def run_section(heading: str, folder: Path, replaced: Mapping[str, str]) -> None:
    """Run the commands of a section of the README, and compare what they print.

    In the expected output `…` is any text. A command that ends in `&` runs in the background, and
    the next one starts when it has printed the expected output. `kill %1` ends it.

    Args:
        heading: the heading of the section.
        folder: where the commands run; it gets a link to the examples.
        replaced: texts of the commands, such as ports, and what the test has in their place.
    """
    text = (EXAMPLES / "README.md").read_text()
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section is not None
    [block] = re.findall(r"^```console\n(.*?)^```$", section[1], re.MULTILINE | re.DOTALL)
    for old, new in replaced.items():
        assert old in block
        block = block.replace(old, new)
    (folder / "examples").symlink_to(EXAMPLES)
    background: list[Program] = []
    with ExitStack() as programs:
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, expected = step.partition("\n")
            pattern = "(?s)" + ".*?".join(map(re.escape, expected.rstrip("\n").split("…")))
            if command == "kill %1":
                program = background.pop()
                program.process.terminate()
                assert program.wait() in (0, -signal.SIGTERM), program.output
            elif command.endswith(" &"):
                bash = ["bash", "-c", f"exec env {command.removesuffix(' &')}"]
                background.append(programs.enter_context(started(bash, folder)))
                background[-1].wait_for(pattern)
            else:
                printed = _printed(command, folder)
                assert re.fullmatch(pattern, printed.rstrip("\n")), f"{command}\n{printed}"


def _printed(command: str, folder: Path) -> str:
    name, *arguments = shlex.split(command)
    if name == "sqlite3":  # not every machine has SQLite's shell
        database, sql = arguments
        return "".join("|".join(map(str, row)) + "\n" for row in rows(folder / database, sql))
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=_environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert 0 == done.returncode, done.stdout
    return done.stdout
