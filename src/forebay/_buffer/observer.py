"""What a worker tells of its flushes, to whoever measures them; and nobody, by default."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self, TypeAlias

from forebay._buffer.ledger import Ledger
from forebay.stores import Batch, BatchError, Outcome

Capture: TypeAlias = Callable[[int, int], None]
"""Called where entries are accepted, with the numbers of the first and the last of them."""


class FlushObserver(Protocol):
    """A context around one flush: all attempts to commit one batch, and the waits between.

    Left by an exception, the flush failed. None of its methods raises or waits.
    """

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def attempt(self) -> None:
        """Note that the store is given the batch now; after a failure, again."""
        ...

    def failed(self, error: BatchError) -> None:
        """Note that the store could not commit it."""
        ...

    def committed(self, outcome: Outcome) -> None:
        """Note that it is committed, and accounted for."""
        ...


class BufferObserver(Protocol):
    """Is told of one buffer. None of its methods raises or waits."""

    @property
    def capture(self) -> Capture | None:
        """What is to be called at each acceptance; None where nobody wants to know."""
        ...

    def opened(self) -> None:
        """Note that the buffer accepts entries."""
        ...

    def flush(self, batch: Batch) -> FlushObserver:
        """Give the context for the flush of a batch."""
        ...

    def closed(self) -> None:
        """Note that nothing more will happen to the buffer."""
        ...


Observe: TypeAlias = Callable[[str, Ledger, int], BufferObserver]
"""Gives the observer of a buffer, by the name of its table, its account, and its capacity."""


class _NoFlushObserver:
    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def attempt(self) -> None:
        pass

    def failed(self, error: BatchError) -> None:
        pass

    def committed(self, outcome: Outcome) -> None:
        pass


class _NoObserver:
    capture = None

    def opened(self) -> None:
        pass

    def flush(self, batch: Batch) -> FlushObserver:  # noqa: ARG002  # the protocol's
        return _NO_FLUSH

    def closed(self) -> None:
        pass


_NO_FLUSH: FlushObserver = _NoFlushObserver()
_NONE: BufferObserver = _NoObserver()


def unobserved(_name: str, _ledger: Ledger, _capacity: int) -> BufferObserver:
    """Give the observer that does nothing."""
    return _NONE
