"""A write-behind buffer in front of every table, for Trio and SQLite."""

from __future__ import annotations

from forebay._errors import OptionsError
from forebay._options import BufferOptions, RetryPolicy
from forebay._settings import Settings

__all__ = [
    "BufferOptions",
    "OptionsError",
    "RetryPolicy",
    "Settings",
]
