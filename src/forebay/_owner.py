"""The process and the thread that own an object, which alone may use it.

Trio's objects belong to the thread of their event loop. A call from another thread would change
them at a moment at which that thread does not expect it, and would often seem to succeed. In a
forked child, an object is a copy of one that its parent still uses.
"""

from __future__ import annotations

import os
import threading
from typing import Final


class _Running(threading.local):
    """What identifies the running thread of the running process."""

    def __init__(self) -> None:
        # threading.local calls this in each thread that reads the attribute.
        self.identity: object = object()


running: Final = _Running()
"""Its `identity` is an object of which each thread of each process has its own.

To compare it with that of an `Owner` is the cheapest check of both, and costs no system call.
"""


def _renew_identity() -> None:
    running.identity = object()


# A forked child has one thread, whose identity would be that of its parent.
if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows cannot fork
    os.register_at_fork(after_in_child=_renew_identity)


class Owner:
    """The process and the thread that created this object.

    Args:
        owned: what belongs to them, for error messages.
        calls: how another thread makes calls, for error messages.
    """

    __slots__ = ("_calls", "_owned", "_process", "identity")

    def __init__(self, owned: str, *, calls: str) -> None:
        self._owned = owned
        self._calls = calls
        self._process = os.getpid()
        self.identity: object = running.identity

    @property
    def is_this_process(self) -> bool:
        """Whether this process is the owner, and not a fork of it."""
        return os.getpid() == self._process

    def check(self) -> None:
        """Check that this process and this thread are the owner.

        Raises:
            RuntimeError: they are not.
        """
        if running.identity is self.identity:
            return
        if not self.is_this_process:
            raise RuntimeError(
                f"{self._owned} was opened in process {self._process}, and this is its forked "
                f"child {os.getpid()}, which must not use it; open another one in this process"
            )
        raise RuntimeError(
            f"{self._owned} belongs to the thread of Trio that opened it, and this is the "
            f"thread {threading.current_thread().name!r}; from here, call {self._calls}, where "
            f"token is what trio.lowlevel.current_trio_token() returns in the thread of Trio"
        )
