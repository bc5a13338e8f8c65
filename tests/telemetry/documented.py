"""The instruments that pages of the documentation list."""

from __future__ import annotations

import re
from pathlib import Path

_DOCS = Path(__file__).parents[2] / "docs"
_ROW = re.compile(r"^\| `([a-z._]+)` \| ([a-z -]+), `([^`]+)` \|", re.MULTILINE)


def documented_instruments(page: str = "instruments.md") -> dict[str, tuple[str, str]]:
    """Return the kind and the unit of each instrument that a page lists, by its name."""
    text = (_DOCS / page).read_text()
    return {name: (kind, unit) for name, kind, unit in _ROW.findall(text)}
