"""Read the rows of the inputs in chunks, with an error for each row that cannot be read."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from io import BufferedReader
from itertools import accumulate
from typing import Any

from forebay.cli._errors import InputError, InputRowError
from forebay.cli._load.convert import Converter, RowConverter
from forebay.cli._load.csv_rows import parse_csv
from forebay.cli._load.encodings import Utf8Stream
from forebay.cli._load.json_documents import parse_json
from forebay.cli._load.json_rows import parse_ndjson
from forebay.cli._load.lines import Lines
from forebay.cli._load.options import InputOptions
from forebay.cli._load.records import Records
from forebay.cli._load.sources import Format, Source, open_file, open_source
from forebay.cli._load.target_columns import MisfitError


@dataclass(slots=True)
class Chunk:
    """Rows that were read together.

    Attributes:
        source: the input's name.
        header: the columns of the cells; None if each row is an object, which names them itself.
        converted: whether the rows are tuples of the table's values. Otherwise they are raw: lists
            of text, or objects.
        rows: the rows that could be read.
        lines: for each row, the line in which it starts; ascending.
        errors: an error for each row that could not be read or converted; ascending by line.
        texts: for each row, its text in the input, unless `block` has the texts.
        block: the text of all rows together, one per line; empty if `texts` has them.
        offsets: for each raw row, the characters of all inputs from the beginning to its end.
        position: the number of bytes of all inputs that have been read from the disk.
        characters: the number of characters of its lines.
    """

    source: str
    header: tuple[str, ...] | None
    converted: bool
    rows: list[Any] = field(default_factory=list[Any])
    lines: Sequence[int] = ()
    errors: list[InputRowError] = field(default_factory=list[InputRowError])
    position: int = 0
    characters: int = 0
    offsets: list[int] = field(default_factory=list[int])
    texts: list[str] = field(default_factory=list[str])
    block: str = ""

    def text_of(self, index: int) -> str:
        """Return the text of a row in the input, for an error that is found later."""
        if self.block:
            self.texts = [line.rstrip("\r\n") for line in _lines_of(self.block)]
            self.block = ""
        return self.texts[index]

    def add_error(self, problem: str, line: int, text: str) -> None:
        """Add an error for the row of this line."""
        self.errors.append(InputRowError(self.source, problem, line=line, text=text))


def _lines_of(block: str) -> Iterable[str]:
    return io.StringIO(block, newline="")  # with newline="" a line ends where it ends in `Lines`


def convert_chunk(chunk: Chunk, converter: Converter) -> Chunk:
    """Return the chunk with its rows converted for the table.

    Raises:
        InputError: the input does not have the columns of the table.
    """
    return chunk if chunk.converted else _convert(chunk, converter.bind(chunk.source, chunk.header))


def _convert(chunk: Chunk, converter: RowConverter) -> Chunk:
    done = replace(chunk, converted=True, offsets=[])
    together = converter.convert_all(chunk.rows)
    if together is not None:
        done.rows = together
        return done
    rows: list[Any] = []
    lines: list[int] = []
    texts: list[str] = []
    done.errors = list(chunk.errors)
    for index, (line, row) in enumerate(zip(chunk.lines, chunk.rows, strict=True)):
        text = chunk.text_of(index)
        try:
            rows.append(converter.convert(row))
        except MisfitError as misfit:
            done.add_error(str(misfit), line, text)
        else:
            lines.append(line)
            texts.append(text)
    done.errors.sort(key=lambda error: error.line)
    done.rows, done.lines, done.texts, done.block = rows, lines, texts, ""
    return done


class Reader:
    """Reads the rows of the inputs, one input after the other.

    Args:
        paths: the inputs: files, or `-` for standard input.
        options: how to read them.
        open_file: opens an input.

    Attributes:
        converter: converts each row that is read from now on; None leaves rows raw. It may be set
            while another thread reads.
    """

    def __init__(
        self,
        paths: Iterable[str],
        options: InputOptions,
        open_file: Callable[[str], BufferedReader] = open_file,
    ) -> None:
        self.converter: Converter | None = None
        self._options = options
        self._open_file = open_file
        self._characters = 0
        self._left = sys.maxsize if options.stop_after is None else options.stop_after
        self._chunks = self._read(paths)
        self._reading = threading.Lock()

    def next_chunk(self) -> Chunk | None:
        """Read rows until the next one would have to be waited for.

        So a row that arrives through a pipe does not wait for the rows after it. An input without
        rows gives a chunk without rows.

        Returns:
            The rows, or None after the last input.

        Raises:
            InputError: an input cannot be opened or read to its end, or does not have the columns
                of the table. The chunks returned before have every row before that point.
        """
        with self._reading:
            return next(self._chunks, None)

    def close(self) -> None:
        """Close the input that is open, after the read in progress. Nothing is read after that."""
        with self._reading:
            self._chunks.close()

    def _read(self, paths: Iterable[str]) -> Generator[Chunk, None, None]:
        before = 0
        for path in paths:
            position = before
            options = self._options
            with open_source(path, options.format, options.usual_format, self._open_file) as source:
                for chunk in self._read_source(source):
                    if source.file.seekable():
                        position = before + source.file.tell()
                    chunk.position = position
                    yield chunk
                    if self._left == 0:
                        return
            before = position

    def _read_source(self, source: Source) -> Iterator[Chunk]:
        records = _parse(source, self._options)
        progress = records.progress
        converter: RowConverter | None = None
        ended = False
        while not ended:
            if converter is None and self.converter is not None:
                converter = self.converter.bind(source.name, records.header)
            chunk = Chunk(source.name, records.header, converted=False)
            before = progress.characters
            failure: InputError | None = None
            try:
                if not self._fill_block(chunk, records, sampled=converter is None):
                    ended = self._fill(chunk, records)
            except InputError as error:
                failure = error
            chunk.characters = progress.characters - before
            yield chunk if converter is None else _convert(chunk, converter)
            if failure is not None:
                raise failure
        self._characters += progress.characters

    def _fill_block(self, chunk: Chunk, records: Records, *, sampled: bool) -> bool:
        """Add the rows of a block, if all of them are well-formed; return whether they are."""
        blocks = records.blocks
        if blocks is None:
            return False
        rows = blocks.peek()
        if not 0 < len(rows) < self._left:
            return False
        chunk.rows, chunk.block = rows, blocks.text
        if sampled:
            before = self._characters + records.progress.characters
            chunk.offsets = list(accumulate(map(len, _lines_of(blocks.text)), initial=before))[1:]
        chunk.lines = blocks.skip()
        self._left -= len(rows)
        return True

    def _fill(self, chunk: Chunk, records: Records) -> bool:
        """Add the rows that can be read without waiting; return whether they are the last."""
        progress = records.progress
        lines: list[int] = []
        chunk.lines = lines
        for line, row in records.rows:
            if isinstance(row, str):
                chunk.add_error(row, line, progress.row_text)
            elif row is None:
                if progress.waiting:
                    return False
                continue
            else:
                chunk.rows.append(row)
                lines.append(line)
                chunk.texts.append(progress.row_text)
                chunk.offsets.append(self._characters + progress.characters)
            self._left -= 1
            if self._left == 0:
                return True
            if progress.waiting:
                return False
        return True


def _parse(source: Source, options: InputOptions) -> Records:
    stream = Utf8Stream(source.stream, options.encoding)
    if source.format is Format.JSON:
        return parse_json(stream, source.name, options)
    lines = Lines(stream, source.name, options.max_line_bytes)
    if source.format is Format.NDJSON:
        return parse_ndjson(lines, options)
    return parse_csv(lines, source.name, source.format, options)
