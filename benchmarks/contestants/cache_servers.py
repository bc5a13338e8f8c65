"""Servers of build caches on loopback: ours, npm's turborepo-remote-cache, and nginx's WebDAV.

nginx keeps files and nothing else, so it shows how fast such a server can be in C.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import TypeAlias

from tests.ports import free_port
from tests.waiting import wait_for_server

ROOT = Path(__file__).parents[2]
MODULES = ROOT / ".bench" / "npm"
"""Where npm installs turborepo-remote-cache."""
TOKEN = "opens-all-projects"  # noqa: S105  # of servers that run for a turn


@dataclass(frozen=True)
class CacheServer:
    """A running server.

    Attributes:
        port: its port on loopback.
        pid: the process that serves.
        target: the path of an artifact; `%s` stands for its name.
        headers: the headers of each request.
    """

    port: int
    pid: int
    target: str
    headers: dict[str, str]


Starts: TypeAlias = Callable[[Path], AbstractContextManager[CacheServer]]
"""Runs a server in a folder for the duration of a block."""

_HEADERS = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/octet-stream"}


@contextmanager
def forebay(folder: Path) -> Iterator[CacheServer]:
    """Run examples/build_cache."""
    port = free_port()
    program = str(ROOT / "examples" / "build_cache")
    command = [sys.executable, program, str(folder / "cache"), f"--port={port}", f"--token={TOKEN}"]
    with _process(command, folder, port) as process:
        yield CacheServer(port, process.pid, "/acme/app/%s", _HEADERS)


@contextmanager
def turborepo_remote_cache(folder: Path) -> Iterator[CacheServer]:
    """Run npm's turborepo-remote-cache with files on the local disk."""
    port = free_port()
    program = MODULES / "node_modules" / "turborepo-remote-cache" / "dist" / "cli.js"
    if not program.exists():
        npm = ["npm", "install", "--silent", "--prefix", str(MODULES), "turborepo-remote-cache"]
        subprocess.run(npm, check=True)  # noqa: S603  # npm
    variables = {
        "PORT": str(port), "TURBO_TOKEN": TOKEN, "STORAGE_PROVIDER": "local",
        "STORAGE_PATH": str(folder / "cache"),
    }  # fmt: skip
    with _process(["node", str(program)], folder, port, variables) as process:
        yield CacheServer(port, process.pid, "/v8/artifacts/%s?slug=acme", _HEADERS)


_NGINX = """
daemon off; pid nginx.pid; error_log nginx.err; worker_processes 1;
events { worker_connections 1024; }
http {
  access_log access.log; client_max_body_size 0;
  client_body_temp_path t; proxy_temp_path t; fastcgi_temp_path t; uwsgi_temp_path t;
  scgi_temp_path t;
  server {
    listen 127.0.0.1:%d; root cache;
    location / { dav_methods PUT; create_full_put_path on; sendfile on; }
  }
}
"""


@contextmanager
def nginx(folder: Path) -> Iterator[CacheServer]:
    """Run nginx with WebDAV."""
    port = free_port()
    (folder / "nginx.conf").write_text(_NGINX % port)
    (folder / "cache").mkdir()
    user = ["-g", "user root;"] if os.getuid() == 0 else []
    command = ["nginx", "-p", str(folder), "-c", "nginx.conf", "-e", "nginx.err", *user]
    with _process(command, folder, port) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        yield CacheServer(port, int(children.split()[0]), "/acme/app/%s", {})


@contextmanager
def _process(
    command: list[str], folder: Path, port: int, variables: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server, and wait until it answers."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  # one of the servers above
            command,
            stdout=output,
            stderr=output,
            cwd=folder,
            env={**os.environ, **(variables or {})},
        )
    try:
        wait_for_server(process, log, partial(_answers, port))
        yield process
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port)
    try:
        connection.request("GET", "/up")
        connection.getresponse().read()
    except OSError:
        return False
    finally:
        connection.close()
    return True
