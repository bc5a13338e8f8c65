"""Opening a database file: its mode, its URI, its settings."""

from __future__ import annotations

import errno
import functools
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

from forebay.sqlite._codes import copy_code

IN_MEMORY = ":memory:"

# SQLite keeps its busy timeout as a 32-bit number of milliseconds.
_BUSY_TIMEOUT_BELOW = 2**31 / 1000

_PRAGMA_NAME = re.compile(r"(?:(?P<schema>\w+)\.)?(?P<name>\w+)", re.ASCII)

# Closing any descriptor of a file drops every POSIX lock that this process holds on it
# (https://www.sqlite.org/howtocorrupt.html, 2.2), so no connection may be opened on a new file
# before the descriptor that created it is closed.
_creating = threading.Lock()


def opener(
    path: str,
    *,
    readonly: bool,
    busy_timeout: float,
    cached_statements: int,
    pragmas: Mapping[str, str | int],
) -> Callable[[], sqlite3.Connection]:
    """Check the arguments of `connect`, and return what opens the file, to be called in a thread.

    Nothing is read or created before that call.
    """
    if not path:
        raise ValueError(f"path={path!r}: expected a file or {IN_MEMORY!r}")
    if path == IN_MEMORY and readonly:
        raise ValueError(f"readonly={readonly!r}: a new database in memory has nothing to read")
    if not 0 <= busy_timeout < _BUSY_TIMEOUT_BELOW:
        raise ValueError(
            f"busy_timeout={busy_timeout!r}: expected seconds, at least 0 and below 2**31 / 1000"
        )
    if cached_statements < 0:
        raise ValueError(f"cached_statements={cached_statements!r}: expected 0 or more")
    settings = [_setting(name, value) for name, value in pragmas.items()]

    def open_raw() -> sqlite3.Connection:
        target = path if path == IN_MEMORY else _prepare_file(path, readonly=readonly)
        try:
            raw = sqlite3.connect(
                target,
                timeout=busy_timeout,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=cached_statements,
                uri=True,
            )
            try:
                for setting in settings:
                    raw.execute(setting).fetchall()
            except BaseException:
                raw.close()
                raise
        except sqlite3.Error as error:
            named = type(error)(f"cannot open {path!r}: {error}")
            copy_code(error, named)
            raise named from error
        return raw

    return open_raw


def _prepare_file(path: str, *, readonly: bool) -> str:
    """Create the file where it is not there and may be, and return the URI that opens it."""
    file = Path(os.path.realpath(path))
    with _creating:
        if readonly:
            file.stat()  # its error names the path, unlike SQLite's
        else:
            with suppress(FileExistsError):
                os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    if file.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    mode = "ro" if readonly else "rw"  # "rw" creates nothing, so nothing gets the umask's mode
    return f"file://{quote(os.fsencode(file))}?mode={mode}"


def _setting(name: str, value: object) -> str:
    """Return the statement that makes one setting. PRAGMA takes no bound values."""
    match = _PRAGMA_NAME.fullmatch(name)
    if match is None or match["name"].lower() not in _known_pragmas():
        raise ValueError(
            f"pragmas: {name!r} is unknown to SQLite {sqlite3.sqlite_version}, "
            "expected a name that `PRAGMA pragma_list` knows"
        )
    if isinstance(value, str):
        literal = "'" + value.replace("'", "''") + "'"
    elif isinstance(value, int):
        literal = str(int(value))
    else:
        raise TypeError(f"pragmas: {name!r} is {value!r}, expected a str or an int")
    schema = f'"{match["schema"]}".' if match["schema"] else ""
    return f'PRAGMA {schema}"{match["name"]}" = {literal}'


@functools.cache
def _known_pragmas() -> frozenset[str]:
    with closing(sqlite3.connect(":memory:")) as scratch:
        return frozenset(name for (name,) in scratch.execute("PRAGMA pragma_list"))
