"""The instruments that docs/instruments.md lists."""

from __future__ import annotations

import re
from pathlib import Path

_DOCUMENT = Path(__file__).parents[2] / "docs" / "instruments.md"
_ROW = re.compile(r"^\| `([a-z._]+)` \| ([a-z -]+), `([^`]+)` \|", re.MULTILINE)


def documented_instruments() -> dict[str, tuple[str, str]]:
    """Return the kind and the unit of each instrument, by its name."""
    return {name: (kind, unit) for name, kind, unit in _ROW.findall(_DOCUMENT.read_text())}
