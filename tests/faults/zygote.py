"""A preloaded interpreter that forks a child for each program, so that hundreds start at once.

Most of the life of a short child would go into its imports; they find made what the modules import
that this process is given the names of. Each request on the socket that is its standard input is a
JSON list, the program's path and its arguments, and brings the three descriptors that become the
child's standard streams; the answer is the child's process id. A request that is such an id is
answered by the child's exit status, once it has ended.

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
        return pid
    status = 1
    try:
        os.setpgid(0, 0)  # to be killed with its own children
        for target, stream in enumerate(streams):
            os.dup2(stream, target)
        os.closerange(3, max(streams) + 1)
        become(program, arguments)
        status = 0
    except SystemExit as ending:
        status = ending.code if isinstance(ending.code, int) else 1
    except BaseException:  # noqa: BLE001  # as an interpreter ends a program
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def become(program: str, arguments: list[str]) -> None:
    if os.read(0, 3) != b"go\n":
        return
    # A job in the background has it ignored, and its children would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # The streams of the zygote have no buffer of lines; those of the child have.
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  # for the life of the process
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115  # the same
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115  # the same
    sys.argv = [program, *arguments]
    runpy.run_path(program, run_name="__main__")


async def warm_up() -> None:
    """Have anyio import what it imports when it is first used."""
    anyio.CapacityLimiter(1)
    await trio.lowlevel.checkpoint()


if __name__ == "__main__":
    for name in sys.argv[1:]:
        importlib.import_module(name)
    trio.run(warm_up)
    serve(socket.socket(fileno=0))
