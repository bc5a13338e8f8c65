"""A torture session: one database, one rival process, and the program run again and again."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

from tests.faults.harness import Child, Zygote, read
from torture.check import Acknowledgements, Checker, Contents
from torture.plan import Ending, Episode, draw

HERE = Path(__file__).parent

_HIDDEN = 0.3
"""How long a table is renamed, in seconds."""

_SIGNALS = {
    Ending.TERMINATED: signal.SIGTERM,
    Ending.INTERRUPTED: signal.SIGINT,
    Ending.KILLED: signal.SIGKILL,
}


class Session:
    """Run episodes, check the database after each, and count the results."""

    def __init__(
        self, zygote: Zygote, path: Path, seed: int, *, strace: bool, verbose: bool
    ) -> None:
        self.violations: list[str] = []
        self._zygote = zygote
        self._path = path
        self._seed = seed
        self._strace = strace
        self._verbose = verbose
        self._checker = Checker()
        self._endings = Counter[str]()
        self._faults = 0
        self._rivals = 0
        self._hidden = 0
        self._reads = 0

    def run(self, *, until: float, long_lock: bool) -> None:
        """Run episodes.

        Args:
            until: when to stop, in seconds of the monotonic clock.
            long_lock: whether to lock the database for a minute in one of the episodes.
        """
        number = 0
        rival = self._new_rival()
        try:
            while time.monotonic() < until:
                episode = draw(
                    self._seed, number, strace=self._strace, long_lock=long_lock and number == 1
                )
                if episode.rival_dies:
                    rival.close()
                    rival = self._new_rival()
                self._run(episode)
                number += 1
        finally:
            rival.close()

    def _new_rival(self) -> Child:
        self._rivals += 1
        name = f"rival {self._rivals}"
        rival = self._zygote.start(HERE / "rival.py", self._path, name, f"{self._seed} {name}")
        rival.send("go")
        return rival

    def _run(self, episode: Episode) -> None:
        acknowledged = Acknowledgements()
        with self._zygote.run(
            HERE / "producers.py",
            self._path,
            episode.number,
            episode.producers,
            episode.steps,
            episode.stride,
            faults=episode.faults(self._path),
            after=None if episode.from_start else "open",
        ) as child:
            self._drive(episode, child, acknowledged)
            status = child.wait()
            errors = child.errors()
        self._count(episode, child, status)
        self._reads += acknowledged.reads
        violations = [*self._check_end(episode, acknowledged, status, errors, hung=child.timed_out)]
        contents = Contents.read(self._path)
        violations += self._checker.violations(episode, acknowledged, contents)
        if self._verbose or violations:
            print(f"{episode}: status {status}", *violations, sep="\n  ", flush=True)
        self.violations += violations

    def _drive(self, episode: Episode, child: Child, acknowledged: Acknowledgements) -> None:
        """Record what the program prints until it ends, and end it as the episode says."""
        if episode.lock:
            with closing(sqlite3.connect(self._path, timeout=60, isolation_level=None)) as raw:
                raw.execute("BEGIN IMMEDIATE")
                time.sleep(episode.lock)
                raw.execute("ROLLBACK")
        count = 0
        for line in child:
            if line == "open":
                child.send("go on")
                continue
            acknowledged.record(line)
            count += 1
            if count == episode.hide:
                self._hide_a_table()
            if count == episode.after and episode.ending in _SIGNALS:
                child.kill(_SIGNALS[episode.ending])

    def _hide_a_table(self) -> None:
        """Rename a table for a moment, so that the flushes of its buffer fail."""
        self._hidden += 1
        with closing(sqlite3.connect(self._path, timeout=60, isolation_level=None)) as raw:
            raw.execute("ALTER TABLE totals RENAME TO hidden")
            time.sleep(_HIDDEN)
            raw.execute("ALTER TABLE hidden RENAME TO totals")

    def _count(self, episode: Episode, child: Child, status: int) -> None:
        if status == -9:
            self._endings["killed"] += 1
        elif status:
            self._endings["failed to open"] += 1
        else:
            self._endings["drained"] += 1
        self._faults += child.injected() if episode.call else 0
        self._faults += episode.ending is Ending.KILLED_AT_A_CALL and status == -9

    def _check_end(
        self,
        episode: Episode,
        acknowledged: Acknowledgements,
        status: int,
        errors: str,
        *,
        hung: bool,
    ) -> list[str]:
        """Return a violation if the program ended in another way than the episode allows."""
        if hung:
            return ["the program did not end in time"]
        killed = episode.ending in (Ending.KILLED, Ending.KILLED_AT_A_CALL)
        not_opened = episode.from_start and not acknowledged.flushed and "StoreError" in errors
        # The program may have ended while a table had another name: it names what is left.
        suspended = episode.hide is not None and "FlushError" in errors
        if status == 0 or (killed and status == -9) or not_opened or suspended:
            return []
        return [f"the program ended with status {status}: {errors[-2000:]}"]

    def report(self) -> str:
        """Return a summary of the session in several lines."""
        [(locks,)] = read(self._path, "SELECT count(*) FROM rivals")
        endings = ", ".join(f"{count} {ending}" for ending, count in sorted(self._endings.items()))
        return "\n".join(
            [
                f"seed {self._seed}",
                f"runs of the program: {self._endings.total()} ({endings})",
                f"kills survived: {self._endings['killed']}",
                f"faults injected into system calls: {self._faults}",
                f"tables renamed for {_HIDDEN} s: {self._hidden}",
                f"locks taken by {self._rivals} rival processes: at least {locks}",
                f"rows read by key: {self._reads:,}",
                f"rows checked: {self._checker.rows_checked:,}",
                f"violations: {len(self.violations)}",
            ]
        )
