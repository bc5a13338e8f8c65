"""`forebay dead-letters purge`: what it removes, and when it asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

import forebay
from forebay import dead_letters
from tests.cli.dead_letters.site import document, execute, left, run


@pytest.mark.parametrize(("answer", "expected"), [("y\n", (0, [2])), ("n\n", (1, [1, 2, 3]))])
def test_a_purge_asks_first(answer: str, expected: tuple[int, list[int]]) -> None:
    """The question has the number of letters."""
    result = run("purge", "site.db", "1", "3", answer=answer)
    assert "Remove 2 dead letters for good? [y/N]" in result.stderr
    assert expected == (result.exit_code, left())


def test_a_purge_without_an_answer_does_nothing() -> None:
    """As in a script that forgot --yes."""
    assert 1 == run("purge", "site.db", "1", answer="").exit_code
    assert [1, 2, 3] == left()


@pytest.mark.parametrize(("answer", "expected"), [("y\n", (0, [])), ("n\n", (1, [1, 2, 3]))])
def test_a_purge_of_all_letters_asks_too(answer: str, expected: tuple[int, list[int]]) -> None:
    """With --all there is no condition."""
    result = run("purge", "site.db", "--all", answer=answer)
    assert "Remove 3 dead letters for good? [y/N]" in result.stderr
    assert expected == (result.exit_code, left())


def test_a_purge_of_all_letters_in_a_script() -> None:
    """The second time there is nothing to remove, and nothing to ask."""
    assert {"purged": 3} == document("purge", "site.db", "--all", "--yes")
    assert {"purged": 0} == document("purge", "site.db", "--all")


@pytest.mark.parametrize(
    ("options", "purged"),
    [
        (["--older-than", "1d"], 2),
        (["--older-than", "1.5w"], 1),
        (["--older-than", "300d"], 0),
        (["--older-than", "47h"], 2),
        (["--older-than", "1000m"], 2),
        (["--older-than", "100000s"], 2),
        (["--older-than", "1d", "--error", "SQLITE_CONSTRAINT_NOTNULL"], 0),
        (["2", "--buffer", "visits"], 1),
        (["--buffer", "pages"], 0),
    ],
)
def test_a_purge_by_age_or_kind(options: Sequence[str], purged: int) -> None:
    """All conditions must hold; a script gives --yes."""
    execute(
        "UPDATE forebay_dead_letters SET failed_at = strftime('%s') - 86400 * "
        "(CASE id WHEN 1 THEN 20 WHEN 2 THEN 2 ELSE 0.5 END)"
    )
    assert {"purged": purged} == document("purge", "site.db", *options, "--yes")
    assert 3 - purged == len(left())


def test_an_interrupted_purge_says_how_far_it_got(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of the letters are removed."""
    purge = dead_letters.purge

    async def interrupted(store: forebay.SqliteStore, **_selection: Any) -> int:
        assert 1 == await purge(store, ids=[1])
        raise KeyboardInterrupt

    monkeypatch.setattr(dead_letters, "purge", interrupted)
    result = run("purge", "site.db", "--all", "--yes")
    assert 130 == result.exit_code
    assert "interrupted: 1 dead letter removed, 2 not" in result.stderr
