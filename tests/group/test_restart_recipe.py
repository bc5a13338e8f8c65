"""The recipe of docs/restart-a-group.md that restarts a group of buffers, with real failures."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from forebay import BufferOptions, Buffers, FlushError, Table, Write, open_buffers, open_sqlite
from forebay.stores import FailureKind
from forebay.testing import MemoryStore

PAGE = Path(__file__).parents[2] / "docs" / "restart-a-group.md"

PAUSE = 0.01


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The functions of the recipe."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    [block] = [block for block in blocks if "async def run_group" in block]
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": __name__}
    definitions = block.removesuffix("trio.run(groups)\n")
    assert definitions != block  # this test runs its own groups
    exec(definitions, names)  # noqa: S102  # our documentation
    return SimpleNamespace(**names)


def rename(path: Path, old: str, new: str) -> None:
    """Rename a table as another program."""
    with closing(sqlite3.connect(path, timeout=60)) as raw:
        raw.execute(f"ALTER TABLE {old} RENAME TO {new}")


def urls(path: Path, table: Table[Any]) -> list[str]:
    with closing(sqlite3.connect(path)) as raw:
        return [url for (url,) in raw.execute(f"SELECT url FROM {table.name} ORDER BY rowid")]  # noqa: S608  # a name of this file


class Work:
    """The work of a group: it is called once for each time that the buffers are opened."""

    def __init__(self, table: Table[Any], row: Any) -> None:
        self.table = table
        self.row = row
        self.opened, self.takes = trio.open_memory_channel[Buffers](10)

    async def __call__(self, buffers: Buffers) -> None:
        await self.opened.send(buffers)
        await trio.sleep_forever()


async def test_one_group_is_restarted_and_the_other_goes_on(
    recipe: SimpleNamespace, tmp_path: Path
) -> None:
    """The entries that were not settled are written once the table is back."""
    path = tmp_path / "a.db"
    views = Work(recipe.views, recipe.View)
    clicks = Work(recipe.clicks, recipe.Click)
    async with (
        open_sqlite(path, create=[recipe.views, recipe.clicks]) as store,
        trio.open_nursery() as nursery,
    ):
        for work in (views, clicks):
            nursery.start_soon(recipe.run_group, store, [work.table], work, PAUSE)
        with trio.fail_after(60):
            first, others = await views.takes.receive(), await clicks.takes.receive()
            rename(path, "views", "gone")
            await first[recipe.views].enqueue_many(
                recipe.View(f"{number}", 1.0) for number in range(3)
            )
            with pytest.raises(trio.BrokenResourceError):
                await first[recipe.views].flush()
            await others[recipe.clicks].write(recipe.Click("during", "ok"))
            rename(path, "gone", "views")
            second = await views.takes.receive()
            await second[recipe.views].write(recipe.View("after", 1.0))
            await others[recipe.clicks].write(recipe.Click("after", "ok"))
        nursery.cancel_scope.cancel()
    assert ["0", "1", "2", "after"] == urls(path, recipe.views)
    assert ["during", "after"] == urls(path, recipe.clicks)


async def test_a_group_that_is_cancelled_while_its_table_is_missing_names_its_entries(
    recipe: SimpleNamespace, tmp_path: Path
) -> None:
    """No entry is lost silently."""
    path = tmp_path / "a.db"
    views = Work(recipe.views, recipe.View)
    with pytest.raises(BaseExceptionGroup) as caught:
        async with (
            open_sqlite(path, create=[recipe.views]) as store,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(recipe.run_group, store, [recipe.views], views, 60)
            with trio.fail_after(60):
                buffers = await views.takes.receive()
                rename(path, "views", "gone")
                with pytest.raises(trio.BrokenResourceError):
                    await buffers[recipe.views].write(recipe.View("a", 1.0))
            nursery.cancel_scope.cancel()
    unwritten, others = caught.value.split(recipe.UnwrittenError)
    assert others is None
    assert unwritten is not None
    while isinstance(unwritten, BaseExceptionGroup):
        [unwritten] = unwritten.exceptions
    assert ({"views": [Write(("a", 1.0))]},) == unwritten.args


async def test_entries_that_were_not_handed_over_stay_with_the_group(
    autojump_clock: MockClock, recipe: SimpleNamespace
) -> None:
    """A buffer may fail again while it accepts the entries: each is in the error or in the list."""
    entries: list[Any] = [Write((f"{number}", 1.0)) for number in range(10_000)]
    before = list(entries)
    store = MemoryStore()
    store.fail_next(FailureKind.FATAL)
    with pytest.raises(FlushError) as caught:
        async with open_buffers(
            store, recipe.views, options=BufferOptions(batch_size=1)
        ) as buffers:
            await recipe.hand_over(entries, buffers[recipe.views])
    assert 0 < len(entries) < len(before)
    assert before == [*caught.value.unsettled.entries, *entries]
