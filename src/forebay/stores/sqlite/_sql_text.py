"""Read the text of SQL statements, for what SQLite tells in no other way. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

# Comments are matched without a group, so that they are skipped.
_TOKEN: Final = re.compile(
    r"""--[^\n]*|/\*.*?(?:\*/|\Z)"""
    r"""|(?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^]]*])"""
    r"""|(?P<word>[\w$]+)|(?P<sign>\S)""",
    re.DOTALL,
)


def words(sql: str) -> list[str]:
    """Return the words of a statement in upper case, without strings and quoted names."""
    return [match["word"].upper() for match in _TOKEN.finditer(sql) if match["word"]]


def tokens(sql: str) -> Iterator[str]:
    """Yield the tokens of a statement, without comments. Words are in upper case.

    Two statements that differ only in spaces, comments and the case of words have the same tokens.
    """
    for match in _TOKEN.finditer(sql):
        if match.lastgroup is not None:
            yield match[0].upper() if match["word"] else match[0]
