"""The process and the thread that own an object, which alone may use it.

Trio's objects belong to the thread of their event loop. A call from another thread would change
them at a moment at which that thread does not expect it, and would often seem to succeed. In a
forked child, an object is a copy of one that its parent still uses.
"""

from __future__ import annotations

import os
import threading
from threading import get_ident


class Owner:
    """The process and the thread that created this object.

    Args:
        owned: what belongs to them, for error messages.
        calls: how another thread makes calls, for error messages.
    """

    __slots__ = ("_calls", "_owned", "_process", "_thread")

    def __init__(self, owned: str, *, calls: str) -> None:
        self._owned = owned
        self._calls = calls
        self._process = os.getpid()
        self._thread = get_ident()

    @property
    def is_this_process(self) -> bool:
        """Whether this process is the owner, and not a fork of it."""
        return os.getpid() == self._process

    def check(self) -> None:
        """Check that this process and this thread are the owner.

        Raises:
            RuntimeError: they are not.
        """
        if os.getpid() != self._process:
            raise RuntimeError(
                f"{self._owned} was opened in process {self._process}, and this is its forked "
                f"child {os.getpid()}, which must not use it; open another one in this process"
            )
        if get_ident() != self._thread:  # one call less than `check_thread`: buffers are fast
            self.check_thread()

    def check_thread(self) -> None:
        """Check that this thread is the owner. This costs a third of `check`.

        Raises:
            RuntimeError: it is not.
        """
        if get_ident() != self._thread:
            raise RuntimeError(
                f"{self._owned} belongs to the thread of Trio that opened it, and this is the "
                f"thread {threading.current_thread().name!r}; from here, call {self._calls}, where "
                f"token is what trio.lowlevel.current_trio_token() returns in the thread of Trio"
            )
