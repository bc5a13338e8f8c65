"""Open a database file: create it with a safe mode, build its URI, set its pragmas."""

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
from urllib.parse import quote, urlencode

from forebay.sqlite._codes import copy_code

IN_MEMORY = ":memory:"

# SQLite stores its busy timeout as a 32-bit number of milliseconds.
_BUSY_TIMEOUT_BELOW = 2**31 / 1000

_PRAGMA_NAME = re.compile(r"(?:(?P<schema>\w+)\.)?(?P<name>\w+)", re.ASCII)

_OWNER_ONLY = 0o600
"""Permissions with which only the owner of a file can read and write it."""

# If a process closes any descriptor of a file, it loses all its POSIX locks on that file
# (https://www.sqlite.org/howtocorrupt.html, 2.2). So no connection may be opened on a new file
# before the descriptor that created the file is closed.
_creating = threading.Lock()


def make_opener(
    path: str,
    *,
    readonly: bool,
    mode: int,
    busy_timeout: float,
    cached_statements: int,
    pragmas: Mapping[str, str | int],
    uri_parameters: Mapping[str, str],
    configure: Callable[[sqlite3.Connection], object] | None,
    factory: type[sqlite3.Connection],
) -> Callable[[], sqlite3.Connection]:
    """Check the arguments of `connect`, and return a function that opens the file in a thread.

    Nothing is read or created before that function is called.
    """
    if not path:
        raise ValueError(f"path={path!r}: expected a file or {IN_MEMORY!r}")
    if path == IN_MEMORY and readonly:
        raise ValueError(f"readonly={readonly!r}: a new in-memory database has no rows to read")
    _check_mode(mode)
    if not 0 <= busy_timeout < _BUSY_TIMEOUT_BELOW:
        raise ValueError(
            f"busy_timeout={busy_timeout!r}: expected seconds, at least 0 and below 2**31 / 1000"
        )
    if cached_statements < 0:
        raise ValueError(f"cached_statements={cached_statements!r}: expected 0 or more")
    settings = [pragma_statement(name, value) for name, value in pragmas.items()]

    def open_raw() -> sqlite3.Connection:
        target = path if path == IN_MEMORY else _prepare_file(path, readonly, mode, uri_parameters)
        try:
            raw = sqlite3.connect(
                target,
                timeout=busy_timeout,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=cached_statements,
                factory=factory,
                uri=True,
            )
            try:
                for setting in settings:
                    raw.execute(setting).fetchall()
                if configure is not None:
                    configure(raw)
            except BaseException:
                raw.close()
                raise
        except sqlite3.Error as error:
            named = type(error)(f"cannot open {path!r}: {error}")
            copy_code(error, named)
            raise named from error
        return raw

    return open_raw


def _check_mode(mode: object) -> None:
    if type(mode) is int and not mode & ~0o777 and mode & _OWNER_ONLY == _OWNER_ONLY:
        return
    given = f"0o{mode:o}" if isinstance(mode, int) else repr(mode)
    raise ValueError(
        f"mode={given}: expected permissions from 0o600 to 0o777 with which the owner can read and "
        f"write, such as 0o660"
    )


def _prepare_file(path: str, readonly: bool, mode: int, uri_parameters: Mapping[str, str]) -> str:
    """Create the file if necessary and allowed, and return the URI that opens it."""
    file = Path(os.path.realpath(path))
    with _creating:
        if readonly:
            file.stat()  # its error has the path, unlike SQLite's
        else:
            with suppress(FileExistsError):
                _create_file(file, mode)
    if file.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    # With mode "rw" SQLite creates no file, which would get its mode from the umask.
    parameters = {**uri_parameters, "mode": "ro" if readonly else "rw"}
    return f"file://{quote(os.fsencode(file))}?{urlencode(parameters)}"


def _create_file(file: Path, mode: int) -> None:
    descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, _OWNER_ONLY)
    try:
        os.fchmod(descriptor, mode)  # the umask does not change it
    finally:
        os.close(descriptor)


def pragma_statement(name: str, value: object) -> str:
    """Return the statement that sets a pragma. A pragma takes no bound values.

    Raises:
        ValueError: SQLite does not know the pragma.
        TypeError: the value is neither a str nor an int.
    """
    match = _PRAGMA_NAME.fullmatch(name)
    if match is None or match["name"].lower() not in _known_pragmas():
        raise ValueError(
            f"pragmas: {name!r} is unknown to SQLite {sqlite3.sqlite_version}, "
            "expected a name from `PRAGMA pragma_list`"
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
