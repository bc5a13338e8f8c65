"""`python -m replay`: replay the trace, print the measurements, and check the resulting cache."""

from __future__ import annotations

import argparse
import hashlib
import os
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from forebay.cache import CacheOptions
from forebay.otlp import export_telemetry
from replay.model import Outcome, differences, expected
from replay.server import Plan, ReplayReport, replay
from replay.trace import PATH, FetchError, fetch, read

_SHOWN = 10
"""The maximum number of differences that are printed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay and check. Return the exit code: 0 if the cache is as expected."""
    args = _parser().parse_args(arguments)
    try:
        trace = args.trace or fetch()
    except FetchError as error:
        print(f"the trace cannot be downloaded: {error}", file=sys.stderr)
        return 2
    plan = Plan(
        trace=trace,
        requests=args.requests,
        tasks=args.tasks,
        per_round=args.per_round,
        budget=_budget(trace, args.requests, args.share),
    )
    print(f"replaying {trace} from {plan.tasks} tasks, with a budget of {plan.budget:,} bytes")
    with TemporaryDirectory(prefix="forebay-replay-") as folder:
        report = trio.run(_replay, plan, Path(folder))
        print_report(report)
        found = check(plan, Path(folder), report)
    for line in found[:_SHOWN]:
        print(line, file=sys.stderr)
    if found:
        print(
            f"the cache differs from the expected cache: {len(found):,} differences",
            file=sys.stderr,
        )
        return 1
    print("the cache is as expected: every key, size, access and file; nothing missing or extra")
    return 0


async def _replay(plan: Plan, folder: Path) -> ReplayReport:
    """Replay the trace, and export telemetry if the environment has an endpoint."""
    with_telemetry = bool(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"))
    async with export_telemetry(service_name="forebay replay") if with_telemetry else nullcontext():
        return await replay(plan, folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="replay", description=__doc__)
    parser.add_argument(
        "--requests", type=int, help="the number of requests to replay; default: all"
    )
    parser.add_argument(
        "--tasks", type=int, default=200, help="the number of tasks that serve requests"
    )
    parser.add_argument(
        "--per-round", type=int, default=10_000, help="the number of requests between evictions"
    )
    parser.add_argument(
        "--share",
        type=float,
        default=0.4,
        help="the budget as a share of the bytes of all artifacts",
    )
    parser.add_argument(
        "--trace", type=Path, help=f"the trace; default: {PATH}, which is downloaded"
    )
    return parser


def _budget(trace: Path, requests: int | None, share: float) -> int:
    sizes = {request.key: request.size for request in read(trace, requests)}
    return max(1, int(share * sum(sizes.values())))


def print_report(report: ReplayReport) -> None:
    """Print the measurements."""
    buffer = report.buffer
    lines = [
        ("requests", f"{report.requests:,} in {report.seconds:.1f} s"),
        ("requests/s", f"{report.requests / report.seconds:,.0f}"),
        ("served from the cache", f"{report.hits / report.requests:.1%}"),
        ("entries accepted", f"{buffer.accepted:,}"),
        ("rows written or deleted", f"{buffer.committed:,} in {buffer.flushes:,} transactions"),
        ("saved by coalescing", f"{buffer.superseded / buffer.accepted:.1%}"),
        ("evictions", f"{report.evictions:,}"),
        ("enqueue, p50 and p99", _percentiles(report.enqueues)),
        ("access, p50 and p99", f"{_percentiles(report.accesses)}, with the stat in a thread"),
    ]
    for name, value in lines:
        print(f"{name:>24}: {value}")


def _percentiles(times: Sequence[float]) -> str:
    ordered = sorted(times)
    p50, p99 = (ordered[int(part * (len(ordered) - 1))] * 1e6 for part in (0.5, 0.99))
    return f"{p50:,.0f} and {p99:,.0f} µs"


def check(plan: Plan, folder: Path, report: ReplayReport) -> list[str]:
    """Compare the database and the files after a replay with the expected ones.

    Returns:
        One line per difference.
    """
    defaults = CacheOptions()
    outcome = expected(
        plan.trace,
        plan.requests,
        per_round=plan.per_round,
        budget=plan.budget,
        high=defaults.high_watermark,
        target=defaults.target,
    )
    connection = sqlite3.connect(folder / "cache.db")
    try:
        rows = connection.execute(
            "SELECT key, size_bytes, last_accessed_at, inserted_at FROM cas_artifacts"
        ).fetchall()
    finally:
        connection.close()
    stored = {key: (size, last, first) for key, size, last, first in rows}
    return [*differences(outcome, stored, report.evictions), *_file_differences(outcome, folder)]


def _file_differences(outcome: Outcome, folder: Path) -> list[str]:
    names = {hashlib.sha256(key.encode()).hexdigest(): key for key in outcome.artifacts}
    found = {
        path.name: path.stat().st_size
        for path in (folder / "artifacts").rglob("*")
        if path.is_file()
    }
    lines = [f"no file: {names[name]}" for name in names.keys() - found.keys()]
    lines += [f"extra file: {name}" for name in found.keys() - names.keys()]
    lines += [
        f"{key}: expected a file of {outcome.artifacts[key][0]} bytes, got {found[name]}"
        for name, key in names.items()
        if name in found and found[name] != outcome.artifacts[key][0]
    ]
    return lines


if __name__ == "__main__":
    sys.exit(main())
