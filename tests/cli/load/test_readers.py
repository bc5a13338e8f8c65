"""Inputs are read in chunks."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.cli._errors import InputError
from forebay.cli._load import lines as lines_module
from forebay.cli._load.column_types import ColumnType
from forebay.cli._load.convert import Converter
from forebay.cli._load.options import InputOptions
from forebay.cli._load.readers import Chunk, Reader, convert_chunk
from forebay.cli._load.sources import Format
from forebay.cli._load.target_columns import TargetColumn
from tests.cli.load.conftest import OpenReader

PAIR = Converter(
    [
        TargetColumn(name="a", type=ColumnType.INTEGER, in_key=True, reason="always"),
        TargetColumn(name="b", type=ColumnType.TEXT, reason="always"),
    ],
    (),
)


def chunks_of(reader: Reader) -> list[Chunk]:
    return list(iter(reader.next_chunk, None))


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "BLOCK_BYTES", 64)


def test_chunks_hold_all_rows_in_order(open_reader: OpenReader, tmp_path: Path) -> None:
    """Each row is in one chunk, with its line, and a chunk has the rows of one read."""
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "".join(f"{i},x\n" for i in range(100)))
    chunks = chunks_of(open_reader([str(path)], InputOptions()))
    assert [[str(i), "x"] for i in range(100)] == [row for chunk in chunks for row in chunk.rows]
    assert list(range(2, 102)) == [line for chunk in chunks for line in chunk.lines]
    assert max(len(chunk.rows) for chunk in chunks) <= 16


def test_inputs_follow_one_another(open_reader: OpenReader, tmp_path: Path) -> None:
    """The rows of all inputs are read in order, and the position counts the bytes of all."""
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(f"a,b\n{name},1\n")
    chunks = chunks_of(
        open_reader([str(tmp_path / "a.csv"), str(tmp_path / "b.csv")], InputOptions())
    )
    assert [["a.csv", "1"], ["b.csv", "1"]] == [row for chunk in chunks for row in chunk.rows]
    assert (12, 24) == (chunks[0].position, chunks[-1].position)


def test_a_converter_takes_effect_at_the_next_chunk(
    open_reader: OpenReader, tmp_path: Path
) -> None:
    """Chunks read before are raw. `convert_chunk` converts them in the same way."""
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "".join(f"{i},x\n" for i in range(30)))
    reader = open_reader([str(path)], InputOptions())
    raw = reader.next_chunk()
    assert raw is not None
    reader.converter = PAIR
    chunks = [convert_chunk(raw, PAIR), *chunks_of(reader)]
    assert not raw.converted
    assert all(chunk.converted for chunk in chunks)
    assert [(i, "x") for i in range(30)] == [row for chunk in chunks for row in chunk.rows]


@pytest.mark.parametrize("raw", [True, False])
def test_a_chunk_has_errors_beside_its_rows(
    open_reader: OpenReader, raw: bool, tmp_path: Path
) -> None:
    """Malformed rows and rows that do not fit the table are in the order of their lines."""
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,x\nz,x\n2\n\n3,x\n,x\n")
    reader = open_reader([str(path)], InputOptions())
    reader.converter = None if raw else PAIR
    chunk = reader.next_chunk()
    assert chunk is not None
    done = convert_chunk(chunk, PAIR)
    hint = "; --short-rows pad fills it with NULL"
    assert [(1, "x"), (3, "x")] == done.rows
    assert [2, 6] == done.lines
    assert [
        f"{path}, line 3: key column 'a' has the value 'z'; expected an integer, always",
        f"{path}, line 4: the row has 1 cell; expected 2, as in the header{hint}",
        f"{path}, line 7: key column 'a' has no value",
    ] == [str(error) for error in done.errors]


@given(
    st.lists(
        st.sampled_from(
            [
                "1,x",
                '2,"y"',
                '3,"two\nlines"',
                '4,"a\rb"',
                "",
                "5",
                "6,x,y",
                "z,x",
                ",x",
                "7,é",
                '8,"open',
                "9,\0",
                "10,\udcff",
                '11,"q"x',
            ]
        ),
        max_size=12,
    ),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.integers(1, 40),
    st.integers(1, 12),
)
def test_the_rows_of_a_block_are_read_as_those_of_its_lines(
    rows: list[str], end: str, block: int, stop_after: int
) -> None:
    """The same rows, lines and errors, whether a block has one line or all lines."""

    def outcome(size: int) -> list[Any]:
        with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
            patch.setattr(lines_module, "BLOCK_BYTES", size)
            path = Path(folder, "a.csv")
            path.write_bytes((end.join(["a,b", *rows]) + end).encode(errors="surrogateescape"))
            reader = Reader([str(path)], InputOptions(stop_after=stop_after))
            reader.converter = PAIR
            chunks = chunks_of(reader)
        good = [pair for chunk in chunks for pair in zip(chunk.lines, chunk.rows, strict=True)]
        bad = [(e.line, e.problem, e.text) for chunk in chunks for e in chunk.errors]
        texts = [chunk.text_of(i) for chunk in chunks for i in range(len(chunk.rows))]
        return [good, bad, texts]

    assert outcome(1) == outcome(block) == outcome(100_000)


def test_an_input_without_rows_gives_a_chunk_without_rows(
    open_reader: OpenReader, tmp_path: Path
) -> None:
    """The chunk has the header."""
    path = tmp_path / "a.csv"
    path.write_text("a,b\n")
    (chunk,) = chunks_of(open_reader([str(path)], InputOptions()))
    assert (("a", "b"), []) == (chunk.header, chunk.rows)


def test_rows_before_a_broken_end_are_read(open_reader: OpenReader, tmp_path: Path) -> None:
    """A truncated file gives every complete row, and then the error."""
    path = tmp_path / "a.csv.gz"
    packed = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (i, i**7) for i in range(2000)))
    path.write_bytes(packed[: len(packed) // 2])
    reader = open_reader([str(path)], InputOptions())
    rows: list[list[str]] = []
    with pytest.raises(InputError, match="end-of-stream marker") as caught:
        while True:
            chunk = reader.next_chunk()
            assert chunk is not None
            rows += chunk.rows
    assert len(rows) > 100
    assert [[str(i), str(i**7)] for i in range(len(rows))] == rows
    assert len(rows) + 2 == caught.value.line


def test_a_row_truncated_inside_quotes_costs_no_row_before_it(
    open_reader: OpenReader, tmp_path: Path
) -> None:
    """The error is raised after the chunk with the rows before it."""
    path = tmp_path / "a.csv.gz"
    # Without compression, so that the offset in the file is known.
    packed = gzip.compress(b'a,b\n1,x\n2,"y\n' + b"z\n" * 200, compresslevel=0)
    path.write_bytes(packed[:100])
    reader = open_reader([str(path)], InputOptions())
    chunk = reader.next_chunk()
    assert chunk is not None
    assert [["1", "x"]] == chunk.rows
    with pytest.raises(InputError, match="end-of-stream marker"):
        reader.next_chunk()


def test_a_row_is_returned_before_the_next_one_arrives(
    open_reader: OpenReader, tmp_path: Path
) -> None:
    """A row that arrives through a pipe does not wait until a chunk is full."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    # Opened for reading and writing, so that it does not wait for the other end.
    writer = os.open(fifo, os.O_RDWR)
    try:
        reader = open_reader([str(fifo)], InputOptions(format=Format.CSV))
        os.write(writer, b"a,b\n1,x\n")
        first = reader.next_chunk()
        os.write(writer, b"2,y\n\n")
        second = reader.next_chunk()
    finally:
        os.close(writer)
    assert first is not None
    assert second is not None
    assert ([["1", "x"]], [["2", "y"]]) == (first.rows, second.rows)
