"""Keep errors of a program's telemetry away from its data."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

_logger = logging.getLogger(__name__)


class _Named(Protocol):
    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=_Named)
P = ParamSpec("P")


def logs_errors(method: Callable[Concatenate[N, P], None]) -> Callable[Concatenate[N, P], None]:
    """Wrap a method so that it logs an exception, with the object's name, instead of raising it."""

    @functools.wraps(method)
    def call(self: N, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception:  # providers and span processors are the program's: any error is possible
            _logger.exception("telemetry of %r failed; writing goes on", self.name)

    return call
