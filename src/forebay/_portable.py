"""Errors that travel: `pickle`, `copy` and process pools keep all their attributes."""

from __future__ import annotations

from typing import Any


class Portable:
    """A base class for exceptions, which lets `pickle` and `copy` rebuild them.

    Python rebuilds an exception by calling its class with `args`. That fails, or changes the
    message, if the arguments of `__init__` are not exactly those in `args`; then a
    `multiprocessing.Pool` waits forever, since it cannot read the result. This class restores
    `args` and the attributes without a call of `__init__`.

    As for every exception, the traceback, `__cause__` and `__context__` are not part of the copy.
    So a subclass must not need them for its attributes or its text.
    """

    args: tuple[Any, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to rebuild the error: from its class and `args`, then its attributes."""
        return _rebuild, (type(self), self.args), self.__dict__


def _rebuild(cls: type[Any], args: tuple[Any, ...]) -> Any:
    error = cls.__new__(cls, *args)
    error.args = args
    return error
