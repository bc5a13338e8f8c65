"""The relay of one table: it sends the oldest block, and the next one after its acknowledgement."""

from __future__ import annotations

import enum
import logging
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from forebay._errors import SchemaError, StoreError, format_count
from forebay._options import JITTER, RetryPolicy
from forebay._portable import Portable
from forebay.stores import DeliveryObserver
from forebay.stores.clickhouse._client import Client
from forebay.stores.clickhouse._failures import Meaning, NoAnswerError, ServerError
from forebay.stores.clickhouse._replacement import BlockReplacer, TableNow
from forebay.stores.clickhouse._spool import Outgoing, Spool
from forebay.stores.clickhouse._spool_table import Spooled

_logger = logging.getLogger(__name__)


class RelayState(enum.Enum):
    """What a relay does."""

    IDLE = "idle"
    """Nothing waits."""
    SENDING = "sending"
    """It sends blocks."""
    RETRYING = "retrying"
    """The server does not answer, or has too much to do. The relay backs off and retries."""
    BLOCKED = "blocked"
    """The server refuses a block, and somebody must remove the cause. The relay retries slowly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayOptions:
    """How blocks are sent.

    Attributes:
        request_timeout: how long a request may take, in seconds.
        insert_interval: how long after the start of an INSERT the next one may start, in seconds.
        retry: the waits after a failure that passes.
    """

    request_timeout: float
    insert_interval: float
    retry: RetryPolicy


_BLOCKED: Final = (Meaning.BLOCKED, Meaning.ROW, Meaning.TYPES)
"""The meanings of failures that do not pass until somebody removes the cause."""

_SLOWER: Final = {Meaning.OVERLOADED: 0.5, **dict.fromkeys(_BLOCKED, 3.0)}
"""The shortest wait after a failure, in multiples of the longest wait of the `RetryPolicy`."""


class NotVerifiedError(Portable, Exception):
    """A table could not be checked, so nothing was sent."""

    def __init__(self, meaning: Meaning, code: str, message: str) -> None:
        super().__init__(message)
        self.meaning = meaning
        self.code = code
        self.summary = message


class Relay:
    """Sends the blocks of one table, in order.

    Args:
        name: the name of the table.
        spool: where the blocks wait.
        client: the client of the server.
        options: how they are sent.
        look_up: looks the table up in the server, and returns what it is now; None if that failed,
            or if the table does not keep its contract any more.
        verify: checks the table in the server, unless it was checked.
        observers: are told of requests and deliveries.
    """

    def __init__(
        self,
        name: str,
        spool: Spool,
        client: Client,
        options: RelayOptions,
        *,
        look_up: Callable[[], Awaitable[TableNow | None]],
        verify: Callable[[], Awaitable[None]],
        observers: Sequence[DeliveryObserver] = (),
    ) -> None:
        self.name = name
        self.state = RelayState.IDLE
        self.delivered = 0
        """The number of rows that the server has acknowledged."""
        self.requests = 0
        """The number of INSERTs that were sent."""
        self.retries = Counter[str]()
        """The number of failed INSERTs, by the code of the error."""
        self.last_error: str | None = None
        self._spool = spool
        self._client = client
        self._options = options
        self._replacer = BlockReplacer(name, spool, look_up)
        self._verify = verify
        self._observers = observers
        self._work = trio.Event()
        self._hurry = trio.Event()
        self._progress = trio.Event()
        self._last_start = -math.inf

    @property
    def refused(self) -> int:
        """The number of rows that the server refused, and that are dead letters."""
        return self._replacer.refused

    def wake(self) -> None:
        """Look for blocks now."""
        self._work.set()

    def hurry(self) -> None:
        """Retry now, if a retry is due later."""
        self._hurry.set()

    @trio.lowlevel.enable_ki_protection  # so that Ctrl-C is raised in the program instead
    async def run(self) -> None:
        """Send blocks until the task is cancelled."""
        while True:
            self._work = trio.Event()
            try:
                found = await self._relay_one()
            except StoreError as error:
                if self.last_error != str(error):
                    _logger.error("table %r: the spool cannot be used: %s", self.name, error)  # noqa: TRY400  # the text says all
                self.state, self.last_error = RelayState.RETRYING, str(error)
                await self._pause(self._options.retry.max_delay)
                continue
            if not found:
                self.state = RelayState.IDLE
                await self._work.wait()

    async def wait_done(self, place: int) -> None:
        """Wait until all blocks up to a place are delivered or refused.

        Raises:
            StoreError: the spool cannot be read.
        """
        while True:
            progress = self._progress
            first = await self._spool.first_place(self.name)
            if first is None or first > place:
                return
            await progress.wait()

    async def _relay_one(self) -> bool:
        """Deliver the oldest block. Return whether there was one.

        Raises:
            StoreError: the spool cannot be read or written.
        """
        await trio.sleep_until(self._last_start + self._options.insert_interval)
        outgoing = await self._spool.take(self.name)
        if outgoing is None:
            return False
        await self._deliver(outgoing)
        self._progress.set()
        self._progress = trio.Event()
        return True

    async def _deliver(self, outgoing: Outgoing) -> None:
        """Send a block until it is delivered, or replaced by its parts."""
        row = outgoing.row
        in_doubt = outgoing.was_sent
        attempts = row.attempts
        while True:
            attempts += 1
            try:
                self._last_start = trio.current_time()
                await self._check_table()
                await self._send(outgoing)
            except (ServerError, NoAnswerError, NotVerifiedError) as error:
                meaning, code = error.meaning, str(error.code)
                in_doubt = in_doubt or meaning is Meaning.IN_DOUBT
                self.retries[code] += 1
                self._report(code, answered=isinstance(error, ServerError))
                self.last_error = str(error)
                if not in_doubt and await self._replace(row, outgoing.block, error):
                    return
                await self._spool.note_failure(
                    row, attempts=attempts, code=code, message=str(error), in_doubt=in_doubt
                )
                await self._back_off(meaning, attempts, row, error.summary)
            else:
                self._report(None, answered=True)
                self.last_error = None
                if self.state is not RelayState.SENDING:
                    _logger.info("table %r: ClickHouse accepts blocks again", self.name)
                self.state = RelayState.SENDING
                await self._spool.delivered(row)
                for observer in self._observers:
                    observer.delivered(self.name, age=max(0.0, time.time() - row.spooled_at))
                self.delivered += row.entries
                return

    def _report(self, code: str | None, *, answered: bool) -> None:
        duration = max(0.0, trio.current_time() - self._last_start)
        for observer in self._observers:
            observer.requested(self.name, duration=duration, code=code, answered=answered)

    async def _check_table(self) -> None:
        """Check the table before the first block, unless it is checked."""
        try:
            await self._verify()
        except (SchemaError, StoreError) as error:
            raise NotVerifiedError(Meaning.BLOCKED, type(error).__name__, str(error)) from error
        except ServerError as error:
            raise NotVerifiedError(error.meaning, str(error.code), str(error)) from error
        except NoAnswerError as error:
            raise NotVerifiedError(Meaning.TRANSIENT, error.code, str(error)) from error

    async def _send(self, outgoing: Outgoing) -> None:
        row = outgoing.row
        self._last_start = trio.current_time()
        self.requests += 1
        if self.state is RelayState.IDLE:
            self.state = RelayState.SENDING
        await self._client.insert(
            row.statement,
            outgoing.block,
            compression="" if row.compression == "none" else row.compression,
            token=row.token,
            timeout=self._options.request_timeout,
        )

    async def _back_off(self, meaning: Meaning, attempts: int, row: Spooled, summary: str) -> None:
        retry, before = self._options.retry, self.state
        blocked = meaning in _BLOCKED
        self.state = RelayState.BLOCKED if blocked else RelayState.RETRYING
        shortest = _SLOWER.get(meaning, 0.0) * retry.max_delay
        delay = max(
            retry.delay(attempts, JITTER.random()),
            shortest * (1 - retry.jitter * JITTER.random()),
        )
        if self.state is not before and blocked:
            _logger.error(
                "table %r is blocked: ClickHouse refuses a block of %s, which waits in the spool "
                "with all that follow: %s",
                *(self.name, format_count(row.entries, "row"), summary),
            )
        elif self.state is not before:
            _logger.warning(
                "table %r: a block of %s was not delivered, and is sent again: %s",
                *(self.name, format_count(row.entries, "row"), summary),
            )
        await self._pause(delay)

    async def _pause(self, delay: float) -> None:
        """Wait until the next attempt is due, or until somebody is in a hurry."""
        self._hurry = trio.Event()
        with trio.move_on_after(delay):
            await self._hurry.wait()

    async def _replace(self, row: Spooled, stored: bytes, error: Exception) -> bool:
        """Replace a refused block, if that can help. If not, the same block must be sent again."""
        try:
            return await self._replacer.replace(row, stored, error)
        except ValueError as problem:
            self.last_error = f"{error} (and the block cannot be changed: {problem})"
            return False
