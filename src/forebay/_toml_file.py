"""Read a TOML file of options. Whatever it contains, the error names the file."""

from __future__ import annotations

import os
import stat
import tomllib
from typing import Any, Final

from forebay._errors import OptionsError
from forebay._option_rules import parse_float

_MAX_BYTES: Final = 2**20
"""The maximum size of the file. As a rule, `tomllib` needs seconds and 100 MB for as much."""


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the contents of a TOML file. A byte order mark at its start is skipped.

    Args:
        path: the file.

    Raises:
        OptionsError: the path is not that of a regular file, or the file is too large or not TOML.
            The message does not contain the path.
        RecursionError: the values are nested too deeply.
        OSError: the file cannot be read.
    """
    try:
        # TOML is always UTF-8. Some editors on Windows begin such a file with the mark.
        return tomllib.loads(_read(path).decode("utf-8-sig"), parse_float=parse_float)
    except ValueError as error:  # also what tomllib does not catch: an integer of 5,000 digits
        raise OptionsError(str(error)) from error


def _read(path: str | os.PathLike[str]) -> bytes:
    # Without O_NONBLOCK, opening a pipe would wait until another program writes to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("this is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:  # a descriptor
            content = file.read(_MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > _MAX_BYTES:
        raise ValueError(f"the file has more than {_MAX_BYTES:,} bytes")
    return content
