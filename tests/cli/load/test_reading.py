"""The sample by which the types of the columns are detected, and the items after it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
import trio.testing

from forebay.cli._errors import InputError
from forebay.cli._load import lines, reading
from forebay.cli._load.options import InputOptions
from forebay.cli._load.readers import Chunk, Reader
from forebay.cli._load.reading import Item, Sample, open_items, read_sample
from tests.cli.load.conftest import OpenReader

ROWS = [[str(i), "x"] for i in range(100)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "".join(f"{a},{b}\n" for a, b in ROWS))
    return path


def rows(items: Sequence[Item]) -> list[list[str]]:
    return [row for item in items if isinstance(item, Chunk) for row in item.rows]


async def sampled(reader: Reader, limit: int) -> Sample:
    sample = Sample()
    await read_sample(reader, sample, lambda _: limit)
    return sample


@pytest.mark.parametrize("block", [1, 7, 64, 10_000])
async def test_types_are_detected_from_the_first_rows_only(
    open_reader: OpenReader, path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many rows a read returns, it is the same number of them."""
    monkeypatch.setattr(lines, "BLOCK_BYTES", block)
    sample = await sampled(open_reader([str(path)], InputOptions()), limit=10)
    assert ROWS[:10] == rows(sample.detected)
    assert ROWS[: sample.rows] == rows(sample.items)
    assert sample.rows >= 10


@pytest.mark.parametrize("block", [1, 7, 64, 10_000])
async def test_long_rows_end_the_sample(
    open_reader: OpenReader, path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends after the row that reaches the number of characters, however they are read."""
    monkeypatch.setattr(lines, "BLOCK_BYTES", block)
    monkeypatch.setattr(reading, "SAMPLE_CHARACTERS", len("a,b\n") + 3 * len("0,x\n") - 1)
    sample = await sampled(open_reader([str(path)], InputOptions()), limit=50)
    assert ROWS[:3] == rows(sample.detected)


async def test_the_characters_of_all_inputs_count(
    open_reader: OpenReader, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sample goes on from one input to the next."""
    monkeypatch.setattr(reading, "SAMPLE_CHARACTERS", 2 * path.stat().st_size - 1)
    sample = await sampled(open_reader([str(path)] * 3, InputOptions()), limit=1_000)
    assert ROWS * 2 == rows(sample.detected)


async def test_a_sample_ends_with_the_inputs(
    open_reader: OpenReader, path: Path, tmp_path: Path
) -> None:
    """At their end, or at the error that ends them, which is the last item."""
    sample = await sampled(open_reader([str(path)], InputOptions()), limit=1_000)
    assert (ROWS, True) == (rows(sample.items), sample.ended)
    sample = await sampled(
        open_reader([str(path), str(tmp_path / "none.csv")], InputOptions()), limit=1_000
    )
    assert (ROWS, True) == (rows(sample.detected), sample.ended)
    assert isinstance(sample.items[-1], InputError)


async def test_a_sample_without_rows(open_reader: OpenReader, tmp_path: Path) -> None:
    """It has the header and no limit."""
    (tmp_path / "a.csv").write_text("a,b\n")
    sample = await sampled(open_reader([str(tmp_path / "a.csv")], InputOptions()), limit=10)
    assert (0, None, True) == (sample.rows, sample.limit, sample.ended)


@pytest.mark.parametrize("read_on", [True, False])
async def test_the_items_of_the_sample_come_first(
    open_reader: OpenReader, path: Path, read_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All other items follow, unless reading has ended."""
    monkeypatch.setattr(lines, "BLOCK_BYTES", 64)
    reader = open_reader([str(path)], InputOptions())
    sample = await sampled(reader, limit=10)
    async with open_items(reader, sample, read_on=read_on) as items:
        received = [item async for item in items]
    assert (ROWS if read_on else rows(sample.items)) == rows(received)


async def test_a_block_that_ends_early_does_not_wait_for_the_inputs(
    open_reader: OpenReader, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reading task ends, though its channel is full."""
    monkeypatch.setattr(lines, "BLOCK_BYTES", 1)
    reader = open_reader([str(path)], InputOptions())
    with trio.fail_after(30):
        async with open_items(reader, await sampled(reader, limit=1), read_on=True) as items:
            await anext(items)


async def test_reading_goes_on_when_the_sample_is_consumed(
    open_reader: OpenReader, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of the sample are converted before the rows that the reader converts."""
    monkeypatch.setattr(lines, "BLOCK_BYTES", 64)
    reader = open_reader([str(path)], InputOptions())
    sample = await sampled(reader, limit=20)
    reads = 0
    next_chunk = reader.next_chunk

    def counted() -> Chunk | None:
        nonlocal reads
        reads += 1
        return next_chunk()

    monkeypatch.setattr(reader, "next_chunk", counted)
    async with open_items(reader, sample, read_on=True) as items:
        for item in sample.items:
            assert item is await anext(items)
            await trio.testing.wait_all_tasks_blocked()
            assert 0 == reads
        await anext(items)
        assert reads > 0
