"""A write-behind buffer in front of every table, for Trio and SQLite."""

from __future__ import annotations

from forebay import dead_letters, doctor, sqlite, stores
from forebay._batching.batch import FlushReason
from forebay._buffer.buffer import Buffer
from forebay._buffer.statistics import BufferStatistics
from forebay._errors import (
    DecodeError,
    DrainError,
    FlushError,
    ForebayError,
    OptionsError,
    RowError,
    SchemaError,
    SpillError,
    StoreError,
    Unsettled,
)
from forebay._group import Buffers, open_buffers, run_buffers
from forebay._option_rules import OptionRange, Options
from forebay._options import BufferOptions, RetryPolicy
from forebay._protection import protected_context
from forebay._settings import Settings
from forebay._statistics_socket import serve_statistics
from forebay._table.codecs import Codec, Iso8601, UnixMicroseconds, UnixSeconds, UuidBytes
from forebay._table.indexes import Index
from forebay._table.json_codec import Json
from forebay._table.merge import Keep, Max, Merge, Min, Replace, Sum
from forebay._table.operations import Delete, DeleteBy, Update, Write
from forebay._table.table import Table
from forebay._version import __version__
from forebay.stores.sqlite import SqliteStore, open_sqlite

__all__ = [
    "Buffer",
    "BufferOptions",
    "BufferStatistics",
    "Buffers",
    "Codec",
    "DecodeError",
    "Delete",
    "DeleteBy",
    "DrainError",
    "FlushError",
    "FlushReason",
    "ForebayError",
    "Index",
    "Iso8601",
    "Json",
    "Keep",
    "Max",
    "Merge",
    "Min",
    "OptionRange",
    "Options",
    "OptionsError",
    "Replace",
    "RetryPolicy",
    "RowError",
    "SchemaError",
    "Settings",
    "SpillError",
    "SqliteStore",
    "StoreError",
    "Sum",
    "Table",
    "UnixMicroseconds",
    "UnixSeconds",
    "Unsettled",
    "Update",
    "UuidBytes",
    "Write",
    "__version__",
    "dead_letters",
    "doctor",
    "open_buffers",
    "open_sqlite",
    "protected_context",
    "run_buffers",
    "serve_statistics",
    "sqlite",
    "stores",
]
