"""The descriptors of files that this process has open."""

from __future__ import annotations

from pathlib import Path


def open_descriptors(path: Path) -> int:
    """Return how many descriptors of a file this process has open."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            found += descriptor.readlink() == path
        except FileNotFoundError:  # the descriptor that listed the folder
            continue
    return found
