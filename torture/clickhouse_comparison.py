"""Compare the tables of a chaos run with what the program was told is committed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.stores.clickhouse.real_server import RealServer
from torture.clickhouse_program import KEYS, ROUND, TABLES, is_delete


@dataclass
class Report:
    """What a run found.

    Attributes:
        acknowledged: the number of writes and deletes of each table that the program was told are
            committed.
        found: the number of rows in the table `appended`.
        twice: how many of them are there more than once.
        lacking_in_view: how many of them are not in the view. ClickHouse writes the token of a
            block before its part: one that is killed in between takes the block for a known one.
        problems: what differs from what is due.
        kills: how often the program and the server were killed.
        faults: the number of INSERTs that the proxy disturbed, and of all.
        memory: the resident memory of the program in each second of an outage, in MiB.
        memory_after: the same while it delivers what was spooled, and writes.
        spool: the size of the spool at the end of an outage, in MiB.
        caught_up: the rows per second that reached `appended` after an outage.
    """

    acknowledged: dict[str, int] = field(default_factory=dict)
    found: int = 0
    twice: int = 0
    lacking_in_view: int = 0
    problems: list[str] = field(default_factory=list)
    kills: dict[str, int] = field(default_factory=lambda: {"program": 0, "server": 0})
    faults: tuple[int, int] = (0, 0)
    memory: list[int] = field(default_factory=list)
    memory_after: list[int] = field(default_factory=list)
    spool: int = 0
    caught_up: int = 0

    def __str__(self) -> str:
        lines = [
            f"acknowledged writes and deletes: {self.acknowledged}",
            f"rows in `appended`: {self.found}, of which twice: {self.twice}",
            f"rows of `appended` that are not in the view: {self.lacking_in_view}",
            f"kills: {self.kills}",
            f"INSERTs: {self.faults[1]}, of which disturbed: {self.faults[0]}",
        ]
        if self.memory:
            fifth = max(1, len(self.memory) // 5)
            fifths = [self.memory[at : at + fifth] for at in range(0, len(self.memory), fifth)]
            lines += [
                "memory in each fifth of the outage, in MiB: "
                + ", ".join(f"{min(part)} to {max(part)}" for part in fifths),
                f"memory while it catches up, at most: {max(self.memory_after)} MiB",
                f"spool at the end of the outage: {self.spool} MiB",
                f"caught up with {self.caught_up} rows per second in `appended`",
            ]
        return "\n".join([*lines, *(f"PROBLEM: {problem}" for problem in self.problems)])


class Comparison:
    """Compares the tables of one database.

    Args:
        server: the server.
        database: the database.
        report: gets what was found.
    """

    def __init__(self, server: RealServer, database: str, report: Report) -> None:
        self._server = server
        self._database = database
        self._report = report

    def compare(self, runs: Sequence[Path]) -> None:
        """Compare the tables with the outputs of the runs of the program."""
        for run, output in enumerate(runs):
            last = {table.name: -1 for table in TABLES}
            for line in output.read_text().splitlines():
                _, name, text = line.split()
                last[name] = int(text)
            for name, number in last.items():
                known = self._report.acknowledged.get(name, 0)
                self._report.acknowledged[name] = known + number + 1
            self._compare_appended(run, last["appended"])
            self._compare_summed(run, last["summed"])
            self._compare_replaced(run, last["replaced"])

    def _query(self, sql: str) -> list[list[int]]:
        return self._server.query(sql)

    def _problem(self, run: int, text: str) -> None:
        self._report.problems.append(f"run {run}: {text}")

    def _compare_appended(self, run: int, acknowledged: int) -> None:
        [[rows, distinct, last, total, wrong]] = self._query(
            "SELECT count(), uniqExact(number), max(number), sum(number),"
            " countIf(text != concat(toString(run), ':', toString(number)))"
            f" FROM {self._database}.appended WHERE run = {run}"
        )
        self._report.found += rows
        self._report.twice += rows - distinct
        if not rows and acknowledged < 0:
            return
        if not rows == distinct == last + 1 or last < acknowledged:
            self._problem(
                run,
                f"appended has {rows} rows, {distinct} distinct, the last one {last}; "
                f"acknowledged were {acknowledged}",
            )
        if wrong:
            self._problem(run, f"appended has {wrong} rows with another text")
        view = self._query(
            f"SELECT sum(rows), sum(total) FROM {self._database}.per_run WHERE run = {run}"
        )
        [[in_view, _]] = view
        if in_view < rows:
            self._report.lacking_in_view += rows - in_view
        elif view != [[rows, total]]:
            self._problem(run, f"the view has {view}, the table {[rows, total]}")

    def _compare_summed(self, run: int, acknowledged: int) -> None:
        found = self._query(
            f"SELECT key, total, last FROM {self._database}.summed FINAL WHERE run = {run}"
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
            f"SELECT key, number FROM {self._database}.replaced FINAL WHERE run = {run}"
            " ORDER BY key"
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
