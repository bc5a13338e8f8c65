"""What a buffer reports to telemetry: protocols, and an observer that ignores all reports.

With these protocols a buffer needs no import of OpenTelemetry.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self, TypeAlias

from forebay._buffer.ledger import Ledger
from forebay.stores import Batch, BatchError, Outcome

Capture: TypeAlias = Callable[[int, int], None]
"""Called when entries are accepted, with the numbers of the first and the last of them.

It is called in the task that sent the entries, so that it can see the current span.
"""


class FlushObserver(Protocol):
    """The context of one flush: all attempts to commit one batch, and the waits between them.

    If an exception leaves the context, the flush failed. No method raises or waits.
    """

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def attempt(self) -> None:
        """Note that an attempt to commit the batch begins."""
        ...

    def failed(self, error: BatchError) -> None:
        """Note that an attempt failed."""
        ...

    def settled(self, outcome: Outcome) -> None:
        """Note that a part of the batch was committed and its entries are settled."""
        ...

    def committed(self, outcome: Outcome) -> None:
        """Note that the whole batch is settled. `settled` was called for each of its parts."""
        ...


class BufferObserver(Protocol):
    """The observer of one buffer. No method raises or waits."""

    @property
    def capture(self) -> Capture | None:
        """The function to call when entries are accepted; None to call none."""
        ...

    def opened(self) -> None:
        """Note that the buffer accepts entries."""
        ...

    def flush(self, batch: Batch) -> FlushObserver:
        """Return the context for the flush of a batch."""
        ...

    def closed(self) -> None:
        """Note that the worker task of the buffer has ended."""
        ...


Observe: TypeAlias = Callable[[str, Ledger, int], BufferObserver]
"""Makes the observer of a buffer from the name of its table, its ledger, and its capacity."""


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

    def settled(self, outcome: Outcome) -> None:
        pass

    def committed(self, outcome: Outcome) -> None:
        pass


class _NoObserver:
    capture = None

    def opened(self) -> None:
        pass

    def flush(self, batch: Batch) -> FlushObserver:  # noqa: ARG002  # as the protocol has it
        return NO_FLUSH

    def closed(self) -> None:
        pass


NO_FLUSH: FlushObserver = _NoFlushObserver()
"""The context of a flush that ignores all reports."""
_NO_OBSERVER: BufferObserver = _NoObserver()


def unobserved(_name: str, _ledger: Ledger, _capacity: int) -> BufferObserver:
    """Return the observer that ignores all reports."""
    return _NO_OBSERVER
