"""Run the Python programs and the commands in README.md and docs/ as tests.

A `python` block is executed, after the blocks above it on its page. If its first line is a comment
with a file name, such as `# collector.py`, it is saved under this name instead, for the commands
below; an `ini` block always is. A `console` block is executed by a shell, and what each command
prints is compared with what the page shows: `…` stands for any text. A command without output on
the page must exit with 0. The variable `PORT` has a free port. Each page has a folder of its own.
Commands that need another machine or the network are in `sh` blocks, which are not executed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sybil import Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser
from sybil.sybil import SybilCollection

from tests.ports import free_port

_SCRIPTS = {
    "python": '#!/bin/sh\nexec {python} "$@"\n',
    "python3": '#!/bin/sh\nexec {python} "$@"\n',
    "forebay": "#!{python}\nfrom forebay.cli import main\nmain()\n",
    "sqlite3": """#!{python}
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as raw:
    for row in raw.execute(sys.argv[2]):
        print(*("" if value is None else value for value in row), sep="|")
raw.close()
""",
}
"""Commands that start the Python that runs the tests, whatever PATH has.

SQLite's shell is not installed everywhere, so `sqlite3` prints what it would print.
"""


def _enter_folder(namespace: dict[str, Any]) -> None:
    namespace["_home"], namespace["_folder"] = Path.cwd(), TemporaryDirectory()
    os.chdir(namespace["_folder"].name)


def _leave_folder(namespace: dict[str, Any]) -> None:
    os.chdir(namespace["_home"])
    namespace["_folder"].cleanup()
    used = "\n".join(namespace.get("_used", []))
    unused = [name for name in namespace.get("_saved", []) if not _names(name, used)]
    assert not unused, f"no command uses {unused}"


def _names(file: str, text: str) -> bool:
    """Return whether a text names a file, or its folder, or imports it.

    pytest and Alembic find their configuration without a name.
    """
    path = Path(file)
    name = path.parts[0] if len(path.parts) > 1 else path.stem
    return path.suffix == ".ini" or re.search(rf"\b{name}\b", text) is not None


_execute = PythonEvaluator()


def _run_or_save(example: Example) -> None:
    """Execute a block of Python, or save a block of any language that names its file."""
    name = re.match(r"# ([\w./-]+\.\w+)\n", example.parsed)
    if name is None:
        _execute(example)
        return
    Path(name[1]).parent.mkdir(parents=True, exist_ok=True)
    Path(name[1]).write_text(example.parsed)
    example.namespace.setdefault("_saved", []).append(name[1])
    example.namespace.setdefault("_used", []).append(example.parsed.partition("\n")[2])


def _environment(namespace: dict[str, Any]) -> dict[str, str]:
    commands = Path(namespace["_folder"].name, ".commands")
    if not commands.exists():
        commands.mkdir()
        for name, script in _SCRIPTS.items():
            (commands / name).write_text(script.format(python=sys.executable))
            (commands / name).chmod(0o700)
    # The scripts of the packages that Python imports, wherever their environment is.
    scripts = [Path(entry).parents[2] / "bin" for entry in sys.path if "site-packages" in entry]
    path = os.pathsep.join(map(str, (commands, *scripts, os.environ["PATH"])))
    return {**os.environ, "PATH": path, "COLUMNS": "100", "PORT": str(free_port())}


_MARK = "--- the end of a command, with the exit code"


def _run_commands(example: Example) -> None:
    """Execute the commands of a console block in one shell, and compare what they print."""
    blocks = re.split(r"^\$ ", example.parsed, flags=re.MULTILINE)
    assert blocks.pop(0) == "", "a console block begins with `$ `"
    commands = [re.sub(r"\\\n *", "", block).partition("\n") for block in blocks]
    example.namespace.setdefault("_used", []).extend(command for command, _, _ in commands)
    mark = f"code=$?; echo; echo '{_MARK}' $code"
    script = "\n".join(f"{command}\n{mark}" for command, _, _ in commands)
    with subprocess.Popen(
        ["bash", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=_environment(example.namespace),
        start_new_session=True,
    ) as shell:
        try:
            output, _ = shell.communicate(timeout=60)  # until background commands have ended too
        finally:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
    results = re.findall(rf"(.*?)\n?^{_MARK} (\d+)\n", output, re.DOTALL | re.MULTILINE)
    for (command, _, expected), (printed, code) in zip(commands, results, strict=True):
        if expected.strip():
            text = "\n".join(map(str.rstrip, printed.strip().splitlines()))
            parts = re.split("(…)", expected.strip())
            pattern = "".join(".*?" if part == "…" else re.escape(part) for part in parts)
            assert re.fullmatch(pattern, text, re.DOTALL), f"{command} printed:\n{output}"
        else:
            assert code == "0", f"{command} exited with {code}:\n{output}"


def _documents(patterns: list[str], parsers: list[Any]) -> Sybil:
    return Sybil(parsers=parsers, patterns=patterns, setup=_enter_folder, teardown=_leave_folder)


_PROGRAMS = CodeBlockParser("python", _run_or_save)
_FILES = CodeBlockParser("ini", _run_or_save)
_CONSOLE = CodeBlockParser("console", _run_commands)

# The commands of README install forebay: the session `build` runs them.
pytest_collect_file = SybilCollection(
    [
        _documents(["README.md"], [_PROGRAMS]),
        _documents(["docs/*.md"], [_PROGRAMS, _FILES, _CONSOLE]),
    ]
).pytest()
