"""Count events that programs send by UDP, and export what this program does to a collector.

A datagram has lines such as `signups:1|c`. The table has one row per counter and minute.
OTEL_EXPORTER_OTLP_ENDPOINT names the collector, and `forebay top statsd.sock` shows the buffer.
"""

import argparse
import re
import signal
from datetime import UTC, datetime
from typing import NamedTuple

import trio
from opentelemetry import metrics

import forebay
from forebay.otlp import export_telemetry


class Count(NamedTuple):
    name: str
    minute: datetime
    events: int


counts = forebay.Table(Count, name="counts", key=("name", "minute"), merge={"events": forebay.Sum})
LINE = re.compile(rb"([\w.-]{1,100}):(\d{1,9})\|c")


async def receive(socket: trio.socket.SocketType, buffer: forebay.Buffer[Count]) -> None:
    lines = metrics.get_meter("statsd").create_counter("statsd.lines")
    while True:
        datagram = await socket.recv(65_536)
        now = datetime.now(UTC).replace(second=0, microsecond=0)
        for line in datagram.splitlines():
            if match := LINE.fullmatch(line):
                outcome = "accepted"
                try:
                    buffer.enqueue_nowait(Count(match[1].decode(), now, int(match[2])))
                except trio.WouldBlock:  # UDP cannot wait: the kernel would drop datagrams instead
                    outcome = "dropped"
            else:
                outcome = "malformed"
            lines.add(1, {"outcome": outcome})


async def serve_top(
    path: str, buffers: forebay.Buffers, task_status: trio.TaskStatus[None]
) -> None:
    async with forebay.serve_statistics(path, buffers):
        task_status.started()
        await trio.sleep_forever()


async def end_on_signal(
    work: trio.CancelScope, buffers: forebay.Buffers, task_status: trio.TaskStatus[None]
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        await anext(signals)
        work.cancel()  # then the buffers drain
        await anext(signals)
        buffers.give_up()  # a second signal ends the drain


async def main(database: str, port: int, top: str) -> None:
    async with (
        export_telemetry(service_name="statsd"),  # first, so that its last export has the drain
        forebay.open_sqlite(database, create=[counts]) as store,
        trio.open_nursery() as tasks,
    ):
        async with forebay.open_buffers(store, counts) as buffers:
            await tasks.start(serve_top, top, buffers)  # outside: `forebay top` shows the drain
            with trio.CancelScope() as work, trio.socket.socket(type=trio.socket.SOCK_DGRAM) as udp:
                await tasks.start(end_on_signal, work, buffers)
                await udp.bind(("127.0.0.1", port))
                print(f"listening at udp://127.0.0.1:{udp.getsockname()[1]}", flush=True)
                await receive(udp, buffers[counts])
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", default="statsd.db")
    parser.add_argument("--port", type=int, default=8125)
    parser.add_argument("--top", default="statsd.sock", help="the socket of `forebay top`")
    arguments = parser.parse_args()
    trio.run(main, arguments.database, arguments.port, arguments.top)
