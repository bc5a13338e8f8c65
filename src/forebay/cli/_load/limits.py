"""How many cells, lines and values a row may have: each needs memory, many times its text's."""

from __future__ import annotations

import re

LONG = 1024 * 1024
"""Characters. In a shorter text the number of cells or values needs no check."""
MOST_CELLS = 32_767
"""The largest number of columns for which SQLite can be compiled: https://sqlite.org/limits.html."""
MOST_LINES = 1_000_000
"""In a row of CSV, which has several lines if a cell in quotes has line ends."""
MOST_VALUES = 1_000_000
"""In a JSON object, with the nested ones. Python needs up to some 200 bytes for each."""
TOO_DEEP = "the values are nested too deeply"
"""The problem of values at which the `json` module raises RecursionError."""
_JSON_QUOTED = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')


def count_outside(quoted: re.Pattern[str], text: str, characters: str) -> int:
    """Count characters in a text, without those in quotes."""
    if sum(map(text.count, characters)) < min(MOST_CELLS, MOST_VALUES):
        return 0
    unquoted = quoted.sub("", text)
    return sum(map(unquoted.count, characters))


def has_too_many_values(text: str) -> bool:
    """Return whether a text of JSON has more values than may be in memory."""
    return len(text) > LONG and count_outside(_JSON_QUOTED, text, ",[{") > MOST_VALUES
