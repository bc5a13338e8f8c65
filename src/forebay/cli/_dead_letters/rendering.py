"""How the commands of `forebay dead-letters` print letters."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

from forebay._errors import format_count
from forebay.cli._output import echo, print_columns, utc
from forebay.dead_letters import Count, DeadLetter, ReplayResult

SHOWN = 20
"""How many letters, ids or reasons are printed; of the others only their number."""


def format_letters(count: int) -> str:
    """Return a number of letters, such as `2 dead letters`."""
    return format_count(count, "dead letter")


def format_ids(ids: Iterable[int]) -> str:
    """Return the first ids of a list, separated by commas."""
    first = [str(letter) for letter in islice(ids, SHOWN + 1)]
    return ", ".join(first[:SHOWN]) + (", …" if len(first) > SHOWN else "")


def print_list(counts: Sequence[Count], letters: Sequence[DeadLetter]) -> None:
    """Print the counts, then the letters, then how many letters are not listed."""
    print_columns(
        ("letters", "table", "error", "oldest", "newest"),
        [(c.count, c.buffer, c.error_code, utc(c.oldest), utc(c.newest)) for c in counts],
    )
    if letters:
        echo()
        print_columns(
            ("id", "failed at", "tries", "table", "operation", "error"),
            [
                (
                    str(x.id),
                    utc(x.failure.failed_at),
                    x.attempts,
                    x.buffer,
                    x.operation,
                    x.failure.error,
                )
                for x in letters
            ],
        )
    if (more := sum(c.count for c in counts) - len(letters)) > 0:
        echo(f"\n{more:,} more are not listed: see --limit.")


def print_nothing_selected(counts: Sequence[Count]) -> None:
    """Print that no letter matches the options, and which letters there are.

    Args:
        counts: the counts of all letters in the file.
    """
    if not counts:
        echo("No dead letters.")
        return
    others = ", ".join(f"{c.count:,} of table {c.buffer!r} with {c.error_code}" for c in counts)
    echo(f"No such dead letters. There are {others}.")


def print_letter(letter: DeadLetter) -> None:
    """Print all of a letter, its last failure first."""
    lines = [
        ("id", letter.id),
        ("table", letter.buffer),
        ("operation", letter.operation),
        ("entry", letter.entry),
        ("error", f"{letter.failure.error_code}: {letter.failure.error}"),
        ("failed at", utc(letter.failure.failed_at)),
        ("tries", letter.attempts),
        *(
            ("before", f"{utc(past.failed_at)} {past.error_code}: {past.error}")
            for past in reversed(letter.history)
        ),
        ("declared", letter.declaration),
    ]
    for name, value in lines:
        echo(f"{name:<10} {value}")


def print_replay(result: ReplayResult) -> None:
    """Print how many letters were replayed, and which were refused or skipped, and why."""
    echo(f"{len(result.replayed):,} replayed.")
    if result.refused:
        echo(f"{len(result.refused):,} refused again: {format_ids(result.refused)}.")
    if result.skipped:
        _print_skipped(result.skipped)


def _print_skipped(skipped: Mapping[int, str]) -> None:
    by_reason: defaultdict[str, list[int]] = defaultdict(list)
    for letter, reason in skipped.items():
        by_reason[reason].append(letter)
    echo(f"{len(skipped):,} could not be tried:")
    for reason in islice(by_reason, SHOWN):
        echo(f"  {format_ids(by_reason[reason])}: {reason}")
    if (more := len(by_reason) - SHOWN) > 0:
        echo(f"  … and more, for {format_count(more, 'other reason')}: see --json")


def replay_as_json(result: ReplayResult) -> dict[str, Any]:
    """Return the outcome of a replay as a JSON object."""
    return {
        "replayed": result.replayed,
        "refused": result.refused,
        "skipped": [{"id": i, "reason": reason} for i, reason in result.skipped.items()],
    }


def letter_as_json(letter: DeadLetter) -> dict[str, Any]:
    """Return a letter as a JSON object; an entry that cannot be decoded stays a string."""
    document = asdict(letter)
    for name in ("entry", "declaration"):
        try:
            document[name] = json.loads(document[name])
        except (ValueError, RecursionError):
            continue
    return document
