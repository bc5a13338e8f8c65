"""Cut connections to ClickHouse, kill it and the program, and compare the tables with what is due.

`nox -s clickhouse-chaos -- --seconds 300 --seed 7`. The same seed draws the same faults. With
`--control` the program sends a block with a new token each time, and rows must be there twice: a
run that finds none would prove nothing.

With `--outage 600` the server is down for 600 seconds instead, while the program writes as fast as
it can. Its memory must not grow, and every row must be there afterwards.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from forebay.stores.clickhouse._declared import CreateOptions, create_sql
from tests.stores.clickhouse.proxy import Answer, Fault, Insert, Proxy
from tests.stores.clickhouse.real_server import RealServer
from torture.clickhouse_comparison import Comparison, Report
from torture.clickhouse_program import TABLES

FAULTS = (
    Fault.REFUSE,
    Fault.CUT_REQUEST,
    Fault.CUT_BEFORE_ANSWER,
    Fault.CUT_BEFORE_ANSWER,
    Fault.CUT_ANSWER,
    Fault.STALL,
    Answer(252),
    Answer(319),
)
SHARE_OF_FAULTS = 0.4
DATABASE = "chaos"
MEMORY_GROWTH = 1.2
"""By how much the most memory of the second half of an outage may exceed that of the first one."""


class Chaos:
    """One run.

    Args:
        folder: for the server, the spool and the outputs.
        seed: draws the faults and the times of the kills.
        same_token: whether the program sends a block with the same token each time.
    """

    def __init__(self, folder: Path, seed: int, *, same_token: bool = True) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self._random = random.Random(seed)
        self._mode = "write" if same_token else "write-with-new-tokens"
        self._server = RealServer(folder / "server")
        self._proxy = Proxy(self._server.port, self._decide)
        self._disturbed = 0
        self._sent_twice = False
        self._calm = False
        self._runs: list[Path] = []
        self.report = Report()

    def _decide(self, insert: Insert) -> Fault | Answer:
        # The shortest run sends a block twice to the table that shows it: see `Report.twice`.
        if not self._sent_twice and "`appended`" in insert.statement:
            self._sent_twice = True
            self._disturbed += 1
            return Fault.CUT_BEFORE_ANSWER
        if self._calm or self._random.random() >= SHARE_OF_FAULTS:
            return Fault.NONE
        self._disturbed += 1
        return self._random.choice(FAULTS)

    async def run(self, seconds: float, *, kills: int) -> Report:
        """Run the program with faults, then deliver what is left, and compare."""
        return await self._run(partial(self._disturb, seconds, kills))

    async def run_outage(self, seconds: float) -> Report:
        """Run the program while the server is down, then deliver what is left, and compare."""
        self._calm = True
        return await self._run(partial(self._take_down, seconds), delivery=120 + seconds)

    async def _run(
        self, trouble: Callable[[], Awaitable[None]], *, delivery: float = 120.0
    ) -> Report:
        self._server.start()
        try:
            self._create_tables()
            async with trio.open_nursery() as nursery:
                await nursery.start(self._proxy.run)
                await trouble()
                self._calm = True
                with self._program("deliver") as process:
                    code = await trio.to_thread.run_sync(process.wait, delivery)
                if code != 0:
                    self.report.problems.append(f"the last delivery failed with code {code}")
                nursery.cancel_scope.cancel()
            self.report.faults = self._disturbed, len(self._proxy.inserts)
            Comparison(self._server, DATABASE, self.report).compare(self._runs)
        finally:
            self._server.kill()
        return self.report

    def _create_tables(self) -> None:
        self._server.execute(f"CREATE DATABASE {DATABASE}")
        for table in TABLES:
            self._server.execute(create_sql(DATABASE, table, CreateOptions()))
        self._server.execute(
            f"CREATE TABLE {DATABASE}.per_run (run Int64, rows Int64, total Int64)"
            " ENGINE = SummingMergeTree ORDER BY run"
            " SETTINGS non_replicated_deduplication_window = 10000"
        )
        self._server.execute(
            f"CREATE MATERIALIZED VIEW {DATABASE}.view TO {DATABASE}.per_run AS SELECT run,"
            f" toInt64(count()) AS rows, sum(number) AS total FROM {DATABASE}.appended GROUP BY run"
        )

    async def _disturb(self, seconds: float, kills: int) -> None:
        """Kill the program and the server by turns, at random times."""
        victims = ["program", "server"] * kills
        share = seconds / (len(victims) + 1)
        while True:
            with self._program(self._mode) as process:
                await self._wait_for_output(process)
                while victims:
                    await trio.sleep(share * self._random.uniform(0.5, 1.5))
                    victim = victims.pop(0)
                    self.report.kills[victim] += 1
                    if victim == "program":
                        break
                    self._server.kill()
                    await trio.sleep(self._random.uniform(0, 1))
                    self._server.start()
                else:
                    await trio.sleep(share)
                self._end(process)
            if not victims:
                return

    async def _take_down(self, seconds: float) -> None:
        """Kill the server, start it again, and let the program write while it catches up."""
        report = self.report
        with self._program(self._mode) as process:
            await self._wait_for_output(process)
            self._server.kill()
            report.kills["server"] += 1
            report.memory = await self._watch_memory(process, seconds)
            report.spool = (self._folder / "spool.db").stat().st_size >> 20
            self._server.start()
            rows = f"SELECT count() FROM {DATABASE}.appended"
            [[before]] = self._server.query(rows)
            started = trio.current_time()
            report.memory_after = await self._watch_memory(process, seconds / 10)
            [[after]] = self._server.query(rows)
            report.caught_up = round((after - before) / (trio.current_time() - started))
            self._end(process)
        half = len(report.memory) // 2
        early, late = max(report.memory[:half]), max(report.memory[half:])
        if late > early * MEMORY_GROWTH:
            report.problems.append(f"the memory grew from {early} MiB to {late} MiB")

    async def _watch_memory(self, process: subprocess.Popen[bytes], seconds: float) -> list[int]:
        """Return the resident memory of the program in each of the next seconds, in MiB."""
        status = Path(f"/proc/{process.pid}/status")
        found: list[int] = []
        deadline = trio.current_time() + seconds
        while trio.current_time() < deadline and process.poll() is None:
            await trio.sleep(1)
            lines = status.read_text().splitlines()  # noqa: ASYNC240  # the file is in memory
            found += [int(line.split()[1]) >> 10 for line in lines if line.startswith("VmRSS:")]
        return found

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Kill the program. It is a problem if it ended by itself."""
        if process.poll() is not None:
            log = (self._folder / f"run-{len(self._runs) - 1}.log").read_text()
            self.report.problems.append(
                f"the program ended with {process.returncode}: {log[-2000:]}"
            )
        process.kill()
        process.wait()

    async def _wait_for_output(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until the program has written rows: only then a kill meets it at its work."""
        while not self._runs[-1].stat().st_size and process.poll() is None:  # noqa: ASYNC110  # a file
            await trio.sleep(0.02)

    @contextmanager
    def _program(self, mode: str) -> Iterator[subprocess.Popen[bytes]]:
        run = len(self._runs)
        self._runs.append(self._folder / f"run-{run}.txt")
        command = [sys.executable, "-m", "torture.clickhouse_program", self._proxy.url, DATABASE]
        command += [str(self._folder / "spool.db"), str(run), mode]
        with (
            self._runs[-1].open("wb") as output,
            (self._folder / f"run-{run}.log").open("wb") as log,
            subprocess.Popen(command, stdout=output, stderr=log) as process,
        ):
            try:
                yield process
            finally:
                process.kill()


def main() -> int:
    """Run the command, and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=3, help="of the program and of the server")
    parser.add_argument("--control", action="store_true", help="send new tokens")
    parser.add_argument("--outage", type=float, help="seconds without a server, instead of faults")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        chaos = Chaos(Path(folder), arguments.seed, same_token=not arguments.control)

        async def run() -> Report:
            if arguments.outage is not None:
                return await chaos.run_outage(arguments.outage)
            return await chaos.run(arguments.seconds, kills=arguments.kills)

        report = trio.run(run)
    print(report)
    if arguments.control and not report.twice:
        print("no row is there twice: the run proves nothing")
    if arguments.control:
        return 0 if report.twice else 1
    return 1 if report.problems or report.lacking_in_view else 0


if __name__ == "__main__":
    sys.exit(main())
