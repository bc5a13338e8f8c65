"""A process that forks a child for each program, after the modules are imported.

A short program would spend most of its time on imports. So the zygote imports the modules that its
arguments name once, for hundreds of children.

It reads requests from a socket, its standard input. A request that is a JSON list, of a program's
path and its arguments, starts a child; three descriptors come with it, which become the child's
standard streams. The answer is the child's process id. A request that is a process id is answered
with the exit status of that child, when it has ended.

A child waits for the line ``go`` on its standard input, so that a tracer can be attached before.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import socket
import sys
from contextlib import suppress

import anyio
import trio


def serve(requests: socket.socket) -> None:
    while True:
        message, streams, _, _ = socket.recv_fds(requests, 65536, 3)
        if not message:
            return
        match json.loads(message):
            case [program, *arguments]:
                answer = fork(program, arguments, streams)
            case pid:
                answer = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        for stream in streams:
            os.close(stream)
        requests.send(json.dumps(answer).encode())


def fork(program: str, arguments: list[str], streams: list[int]) -> int:
    pid = os.fork()
    if pid:
        with suppress(ProcessLookupError, PermissionError):  # the child was faster
            os.setpgid(pid, pid)  # so that it can be killed with its own children
        return pid
    status = 1
    try:
        os.setpgid(0, 0)  # in both processes, since either may be the first to run
        for target, stream in enumerate(streams):
            os.dup2(stream, target)
        os.closerange(3, max(streams) + 1)
        become(program, arguments)
        status = 0
    except SystemExit as ending:
        status = ending.code if isinstance(ending.code, int) else 1
    except BaseException:  # noqa: BLE001  # an interpreter ends a program like this
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def become(program: str, arguments: list[str]) -> None:
    if os.read(0, 3) != b"go\n":
        return
    # A background job ignores SIGINT, and its children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # The zygote's streams are not line-buffered; the child's are.
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  # for the life of the process
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115  # the same
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115  # the same
    sys.argv = [program, *arguments]
    runpy.run_path(program, run_name="__main__")


async def warm_up() -> None:
    """Let anyio import the modules that it imports when it is first used."""
    anyio.CapacityLimiter(1)
    await trio.lowlevel.checkpoint()


if __name__ == "__main__":
    for name in sys.argv[1:]:
        importlib.import_module(name)
    trio.run(warm_up)
    serve(socket.socket(fileno=0))
