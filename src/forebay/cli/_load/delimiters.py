"""Notice an input whose columns are separated in another way than its format says."""

from __future__ import annotations

from forebay.cli._load.readers import Chunk
from forebay.cli._load.sources import Format

_ADVICE = {
    "\t": "if tabs separate its columns, load it with --format tsv",
    ";": "if semicolons separate its columns, convert it to CSV with commas first",
    "|": "if vertical bars separate its columns, convert it to CSV with commas first",
}


def describe_delimiter(chunk: Chunk) -> str | None:
    """Return a message if the header has a single name that looks like several, or None."""
    if chunk.header is None or len(chunk.header) != 1:
        return None
    [name] = chunk.header
    advice = [advice for delimiter, advice in _ADVICE.items() if delimiter in name]
    if chunk.format is Format.TSV and "," in name:
        advice.append("if commas separate its columns, load it with --format csv")
    if not advice:
        return None
    return f"{chunk.source} has one column, named {name!r}; {advice[0]}"
