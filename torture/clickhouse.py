"""Cut connections to ClickHouse, kill it and the program, and compare the tables with what is due.

`nox -s clickhouse-chaos -- --seconds 300 --seed 7`. The same seed draws the same faults. With
`--control` the program sends a block with a new token each time, and rows must be there twice: a
run that finds none would prove nothing.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from forebay.stores.clickhouse._declared import CreateOptions, create_sql
from tests.stores.clickhouse.proxy import Answer, Fault, Insert, Proxy
from tests.stores.clickhouse.real_server import RealServer
from torture.clickhouse_program import KEYS, ROUND, TABLES, is_delete

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


@dataclass
class Report:
    """What a run found.

    Attributes:
        acknowledged: the number of writes and deletes of each table that the program was told are
            committed.
        found: the number of rows in the table `appended`.
        twice: how many of them are there more than once.
        problems: what differs from what is due.
        kills: how often the program and the server were killed.
        faults: the number of INSERTs that the proxy disturbed, and of all.
    """

    acknowledged: dict[str, int] = field(default_factory=dict)
    found: int = 0
    twice: int = 0
    problems: list[str] = field(default_factory=list)
    kills: dict[str, int] = field(default_factory=lambda: {"program": 0, "server": 0})
    faults: tuple[int, int] = (0, 0)


class Chaos:
    """One run.

    Args:
        folder: for the server, the spool and the outputs.
        seed: draws the faults and the times of the kills.
        same_token: whether the program sends a block with the same token each time.
    """

    def __init__(self, folder: Path, seed: int, *, same_token: bool = True) -> None:
        self._folder = folder
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
        self._server.start()
        try:
            self._create_tables()
            async with trio.open_nursery() as nursery:
                await nursery.start(self._proxy.run)
                await self._disturb(seconds, kills)
                self._calm = True
                with self._program("deliver") as process:
                    code = await trio.to_thread.run_sync(process.wait, 120)
                if code != 0:
                    self.report.problems.append(f"the last delivery failed with code {code}")
                nursery.cancel_scope.cancel()
            self.report.faults = self._disturbed, len(self._proxy.inserts)
            self._compare()
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
                if process.poll() is not None:
                    log = (self._folder / f"run-{len(self._runs) - 1}.log").read_text()
                    self.report.problems.append(
                        f"the program ended with {process.returncode}: {log[-2000:]}"
                    )
                process.kill()
                process.wait()
            if not victims:
                return

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

    def _compare(self) -> None:
        for run, output in enumerate(self._runs):
            last = {table.name: -1 for table in TABLES}
            for line in output.read_text().splitlines():
                _, name, text = line.split()
                last[name] = int(text)
            for name, number in last.items():
                known = self.report.acknowledged.get(name, 0)
                self.report.acknowledged[name] = known + number + 1
            self._compare_appended(run, last["appended"])
            self._compare_summed(run, last["summed"])
            self._compare_replaced(run, last["replaced"])

    def _query(self, sql: str) -> list[list[int]]:
        return self._server.query(sql)

    def _problem(self, run: int, text: str) -> None:
        self.report.problems.append(f"run {run}: {text}")

    def _compare_appended(self, run: int, acknowledged: int) -> None:
        [[rows, distinct, last, total]] = self._query(
            "SELECT count(), uniqExact(number), max(number), sum(number)"
            f" FROM {DATABASE}.appended WHERE run = {run}"
        )
        self.report.found += rows
        self.report.twice += rows - distinct
        if not rows and acknowledged < 0:
            return
        if not rows == distinct == last + 1 or last < acknowledged:
            self._problem(
                run,
                f"appended has {rows} rows, {distinct} distinct, the last one {last}; "
                f"acknowledged were {acknowledged}",
            )
        view = self._query(
            f"SELECT sum(rows), sum(total) FROM {DATABASE}.per_run WHERE run = {run}"
        )
        if view != [[rows, total]]:
            self._problem(run, f"the view has {view}, the table {[rows, total]}")

    def _compare_summed(self, run: int, acknowledged: int) -> None:
        found = self._query(
            f"SELECT key, total, last FROM {DATABASE}.summed FINAL WHERE run = {run}"
        )
        for key, total, last in found:
            due = sum(range(key, last + 1, KEYS))
            if total != due:
                self._problem(run, f"summed has {total} for key {key}, due is {due}")
        last = max((last for _, _, last in found), default=-1)
        if last < acknowledged:
            self._problem(run, f"summed ends at {last}; acknowledged were {acknowledged}")

    def _compare_replaced(self, run: int, acknowledged: int) -> None:
        found = self._query(
            f"SELECT key, number FROM {DATABASE}.replaced FINAL WHERE run = {run} ORDER BY key"
        )
        due: dict[int, int] = {}
        for number in range(acknowledged + ROUND + 1):
            if is_delete(number):
                due.pop(number % KEYS, None)
            else:
                due[number % KEYS] = number
            # What the program was not told about is committed up to some number.
            if number >= acknowledged and found == [list(item) for item in sorted(due.items())]:
                return
        if acknowledged >= 0 or found:
            self._problem(run, f"replaced has {found}; acknowledged were {acknowledged}")


def main() -> int:
    """Run the command, and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=3, help="of the program and of the server")
    parser.add_argument("--control", action="store_true", help="send new tokens")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        chaos = Chaos(Path(folder), arguments.seed, same_token=not arguments.control)

        async def run() -> Report:
            return await chaos.run(arguments.seconds, kills=arguments.kills)

        report = trio.run(run)
    print(report)
    if arguments.control:
        return 0 if report.twice else 1
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
