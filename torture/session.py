"""A torture session: one file, one rival, one life of the program after another."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

from tests.faults.harness import Child, Zygote, read
from torture.account import Account, File, Told
from torture.plan import Ending, Episode, draw

HERE = Path(__file__).parent


class Session:
    """Runs episodes and counts what became of them."""

    def __init__(
        self, zygote: Zygote, path: Path, seed: int, *, strace: bool, verbose: bool
    ) -> None:
        self.violations: list[str] = []
        self._zygote = zygote
        self._path = path
        self._seed = seed
        self._strace = strace
        self._verbose = verbose
        self._account = Account()
        self._endings = Counter[str]()
        self._faults = 0
        self._rivals = 0

    def run(self, *, until: float, long_lock: bool) -> None:
        """Run episodes until a time of the monotonic clock."""
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
        rival.tell("go")
        return rival

    def _run(self, episode: Episode) -> None:
        told = Told()
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
            self._drive(episode, child, told)
            status = child.wait()
            errors = child.errors()
        self._count(episode, child, status)
        wrong = [*self._ended_badly(episode, told, status, errors, hung=child.hung)]
        wrong += self._account.violations(episode, told, File.read(self._path))
        if self._verbose or wrong:
            print(f"{episode}: status {status}", *wrong, sep="\n  ", flush=True)
        self.violations += wrong

    def _drive(self, episode: Episode, child: Child, told: Told) -> None:
        """Listen to the program to its end, and bring about that end."""
        if episode.lock:
            with closing(sqlite3.connect(self._path, timeout=60, isolation_level=None)) as raw:
                raw.execute("BEGIN IMMEDIATE")
                time.sleep(episode.lock)
                raw.execute("ROLLBACK")
        heard = 0
        for line in child:
            if line == "open":
                child.tell("go on")
                continue
            told.hear(line)
            heard += 1
            if heard == episode.after and episode.ending is Ending.KILLED:
                child.kill()
            if heard == episode.after and episode.ending is Ending.TERMINATED:
                child.terminate()

    def _count(self, episode: Episode, child: Child, status: int) -> None:
        if status == -9:
            self._endings["killed"] += 1
        elif status:
            self._endings["refused at open"] += 1
        else:
            self._endings["drained"] += 1
        self._faults += child.injected() if episode.call else 0
        self._faults += episode.ending is Ending.KILLED_AT_A_CALL and status == -9

    def _ended_badly(
        self, episode: Episode, told: Told, status: int, errors: str, *, hung: bool
    ) -> list[str]:
        if hung:
            return ["hung"]
        killed = episode.ending in (Ending.KILLED, Ending.KILLED_AT_A_CALL)
        refused = episode.from_start and not told.flushed and "StoreError" in errors
        if status == 0 or (killed and status == -9) or refused:
            return []
        return [f"ended with {status}: {errors[-2000:]}"]

    def report(self) -> str:
        """Tell what was done and found, in lines."""
        [(locks,)] = read(self._path, "SELECT count(*) FROM rivals")
        lives = ", ".join(f"{count} {ending}" for ending, count in sorted(self._endings.items()))
        return "\n".join(
            [
                f"seed {self._seed}",
                f"lives of the program: {self._endings.total()} ({lives})",
                f"kills survived: {self._endings['killed']}",
                f"faults injected into system calls: {self._faults}",
                f"locks taken by {self._rivals} rivals: {locks} or more",
                f"rows checked: {self._account.rows_checked:,}",
                f"violations: {len(self.violations)}",
            ]
        )
