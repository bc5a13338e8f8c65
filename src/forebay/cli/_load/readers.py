"""Read the rows of the inputs in chunks, with an error for each row that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from forebay.cli._errors import InputError, InputRowError
from forebay.cli._load.convert import Converter, MisfitError
from forebay.cli._load.lines import Lines
from forebay.cli._load.parsers import Record, parse
from forebay.cli._load.sources import Format, Source, open_source

DEFAULT_LINE_LIMIT = 64 * 1024 * 1024


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
        offsets: for each raw row, the characters of all inputs from the beginning to its end.
        position: the number of bytes of all inputs that have been read from the disk.
        characters: the number of characters of its lines.
        format: the input's format.
    """

    source: str
    header: tuple[str, ...] | None
    converted: bool
    rows: list[Any] = field(default_factory=list[Any])
    lines: list[int] = field(default_factory=list[int])
    errors: list[InputRowError] = field(default_factory=list[InputRowError])
    position: int = 0
    characters: int = 0
    format: Format | None = None
    offsets: list[int] = field(default_factory=list[int])

    def add(self, record: Record, convert: Callable[[Any], tuple[Any, ...]] | None) -> None:
        """Add a row, or an error if it is malformed or cannot be converted."""
        line, row = record
        if isinstance(row, str):
            self.errors.append(InputRowError(self.source, row, line=line))
        elif row is not None:
            try:
                self.rows.append(row if convert is None else convert(row))
            except MisfitError as misfit:
                self.errors.append(InputRowError(self.source, str(misfit), line=line))
            else:
                self.lines.append(line)


def convert_chunk(chunk: Chunk, converter: Converter) -> Chunk:
    """Return the chunk with its rows converted for the table.

    Raises:
        InputError: the input does not have the columns of the table.
    """
    if chunk.converted:
        return chunk
    convert = converter.bind(chunk.source, chunk.header)
    done = Chunk(chunk.source, chunk.header, converted=True)
    for record in zip(chunk.lines, chunk.rows, strict=True):
        done.add(record, convert)
    done.position, done.characters = chunk.position, chunk.characters
    done.errors = sorted(chunk.errors + done.errors, key=lambda error: error.line)
    return done


class Reader:
    """Reads the rows of the inputs, one input after the other.

    Args:
        paths: the inputs: files, or `-` for standard input.
        declared: the format of all inputs; None for the format of each file's extension.
        line_limit: the maximum length of a line, in bytes.

    Attributes:
        converter: converts each row that is read from now on; None leaves rows raw. It may be set
            while another thread reads.
    """

    def __init__(
        self,
        paths: Iterable[str],
        declared: Format | None,
        line_limit: int = DEFAULT_LINE_LIMIT,
    ) -> None:
        self.converter: Converter | None = None
        self._line_limit = line_limit
        self._characters = 0
        self._chunks = self._read(paths, declared)

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
        return next(self._chunks, None)

    def _read(self, paths: Iterable[str], declared: Format | None) -> Iterator[Chunk]:
        before = 0
        for path in paths:
            position = before
            with open_source(path, declared) as source:
                for chunk in self._read_source(source):
                    if source.file.seekable():
                        position = before + source.file.tell()
                    chunk.position = position
                    yield chunk
            before = position

    def _read_source(self, source: Source) -> Iterator[Chunk]:
        lines = Lines(source.stream, source.name, self._line_limit)
        header, records = parse(lines, source.name, source.format)
        convert: Callable[[Any], tuple[Any, ...]] | None = None
        ended = False
        while not ended:
            if convert is None and self.converter is not None:
                convert = self.converter.bind(source.name, header)
            chunk = Chunk(source.name, header, converted=convert is not None, format=source.format)
            before = lines.characters
            ended = True
            try:
                for record in records:
                    chunk.add(record, convert)
                    if convert is None and len(chunk.offsets) < len(chunk.rows):
                        chunk.offsets.append(self._characters + lines.characters)
                    if lines.waiting:
                        ended = False
                        break
                chunk.characters = lines.characters - before
            except InputError:
                yield chunk
                raise
            yield chunk
        self._characters += lines.characters
