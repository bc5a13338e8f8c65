"""What to load, and how: the options of the command, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import forebay
from forebay.cli._load.sources import Format

DEFAULT_LINE_LIMIT = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class InputOptions:
    """How the inputs are read.

    Attributes:
        format: their format; None for that of each file's extension.
        encoding: their encoding; None for UTF-8, and for UTF-16 with a byte order mark.
        delimiter: the character between cells; None for that of the format.
        quotechar: the character around cells; empty for none, None for the double quote.
        sniff: whether to detect the delimiter and the quote character.
        has_header: whether the first row has the names of the columns.
        header: the names of the columns of inputs without a header; None for `column1`, and so on.
        pad_short_rows: whether a row with too few cells ends with NULL; otherwise it is malformed.
        flatten: whether the keys of nested JSON objects become columns.
        stop_after: the number of rows after which the reading ends; None for all rows.
        max_line_bytes: the maximum length of a line, and of a row of several lines.
    """

    format: Format | None = None
    encoding: str | None = None
    delimiter: str | None = None
    quotechar: str | None = None
    sniff: bool = False
    has_header: bool = True
    header: Sequence[str] | None = None
    pad_short_rows: bool = False
    flatten: bool = False
    stop_after: int | None = None
    max_line_bytes: int = DEFAULT_LINE_LIMIT

    @property
    def usual_format(self) -> Format | None:
        """The format of an input whose name shows none."""
        return Format.CSV if self.delimiter is not None or self.sniff else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TableOptions:
    """What the table is like.

    Attributes:
        name: its name.
        key: the columns of the key; empty for an append-only table.
        merge: what a later row does to an earlier row with the same key.
        types: the declared types of columns, by name, that come before detected types.
        not_null: the columns that refuse NULL.
        defaults: the texts of the columns' defaults, by name.
        indexes: the columns of each index.
        strict: whether a new table is a STRICT table.
        alter: whether columns that an existing table does not have are added.
        truncate: whether the rows of an existing table are deleted before the first row is loaded.
    """

    name: str
    key: Sequence[str] = ()
    merge: forebay.Merge = forebay.Replace
    types: Mapping[str, str] = field(default_factory=dict[str, str])
    not_null: Sequence[str] = ()
    defaults: Mapping[str, str] = field(default_factory=dict[str, str])
    indexes: Sequence[Sequence[str]] = ()
    strict: bool = False
    alter: bool = False
    truncate: bool = False

    def columns_by_option(self) -> Mapping[str, Sequence[str]]:
        """Return the columns that options name, by the option."""
        return {
            "--key": self.key,
            "--type": tuple(self.types),
            "--not-null": self.not_null,
            "--default": tuple(self.defaults),
            "--index": [name for index in self.indexes for name in index],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRequest:
    """What to load, and how.

    Attributes:
        files: the inputs: paths, or `-` for standard input.
        input: how they are read.
        database: the path of the database.
        table: what the table is like.
        nulls: the texts that mean NULL.
        detect_types: whether to detect numbers in the texts of CSV.
        keep_misfits: whether values of another type than their column's are stored as they are.
        skip_malformed: whether rows that cannot be loaded are skipped.
        rejects: the path of the file for the rows that are skipped; None for no file.
        dry_run: whether to show the table and the first rows only.
        options: the options of the buffer.
    """

    files: Sequence[str]
    input: InputOptions
    database: str
    table: TableOptions
    nulls: frozenset[str]
    detect_types: bool
    keep_misfits: bool
    skip_malformed: bool
    rejects: str | None
    dry_run: bool
    options: forebay.BufferOptions
