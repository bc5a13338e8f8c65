"""Write rows past the worker: commit the row of a task in its own turn of the event loop.

A task that awaits one `Buffer.write` after another would otherwise wait for two turns of the loop
per row: one until the worker runs, and one until the task runs again. So while nothing else is
pending, `write` makes the batch, and has it committed, itself. There is no schedule point in this,
so no other task, and not the worker, sees a step of it.

If the commit takes longer than a moment, or fails, the worker goes on with the batch.
"""

from __future__ import annotations

import trio

from forebay._batching.batch import FlushReason
from forebay._batching.coalesce import Coalescer
from forebay._buffer.channel import Channel
from forebay._buffer.flusher import Flusher
from forebay._buffer.in_flight import InFlight
from forebay._buffer.observer import BufferObserver
from forebay._table.operations import Row


class DirectWriter:
    """Writes rows of one buffer past its worker.

    Args:
        channel: the channel of the buffer.
        coalescer: the worker's. It is empty whenever the channel is idle.
        flusher: the worker's.
        observer: the observer of the buffer.
    """

    def __init__(
        self,
        channel: Channel,
        coalescer: Coalescer,
        flusher: Flusher,
        observer: BufferObserver,
    ) -> None:
        self._channel = channel
        self._coalescer = coalescer
        self._flusher = flusher
        self._observer = observer
        self._last_task = 0
        """The id of the task that called last."""

    def write_nowait(self, row: Row) -> InFlight | None:
        """Accept a row, and commit it if that can be done at once.

        Tasks that write at the same time share transactions. So the row is accepted only if the
        same task called this before, and its row was alone in its batch.

        Returns:
            The batch of the row, which is settled, or which the worker flushes next; None if the
            row was not accepted.

        Raises:
            Exception: an error of the store, or a lack of memory. The row was not accepted.
        """
        last, self._last_task = self._last_task, id(trio.lowlevel.current_task())
        if last != self._last_task or self._flusher.last_entries != 1:
            return None
        if not self._channel.idle:
            return None
        batch = self._coalescer.batch_of_row(row, FlushReason.REQUESTED)
        try:
            flight = self._flusher.take(batch, 0, self._observer.flush(batch))
            self._channel.send_alone(row)
        except BaseException:
            self._flusher.in_flight = None
            raise
        # The row is accepted, and the flusher names it.
        self._coalescer.position = batch.end
        self._flusher.flush_nowait(flight)
        if not flight.settled:
            self._channel.wake()
        return flight
