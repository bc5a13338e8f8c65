"""The version of the formats in which forebay stores what later versions must read.

One number stands for all of them: the tables `forebay_…`, the JSON of dead letters and their
declarations, and spill files. What has no number has format 1. To change a format: increment
`FORMAT`, and let the code that reads accept the older numbers.
"""

from __future__ import annotations

from typing import Final

from forebay._version import __version__

FORMAT: Final = 1

SPOOL_ID: Final = 0x666F7265
"""SQLite's `application_id` of a spool, "fore": no other SQLite file is taken for one."""


def check_format(found: object) -> None:
    """Check that this version of forebay can read a format.

    Args:
        found: the number that was read.

    Raises:
        ValueError: the format is newer, or is not a number of a format.
    """
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise ValueError(f"invalid number of a format: {found!r}")
    if found > FORMAT:
        raise ValueError(
            f"its format {found} is newer than format {FORMAT}, the newest that forebay "
            f"{__version__} reads: install a newer version of forebay"
        )
