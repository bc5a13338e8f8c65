"""`ReadThrough`: fetches an artifact from the object storage when a reader misses it."""

from __future__ import annotations

import logging
import math
import random
from dataclasses import dataclass, replace

import trio
from uuid_utils import uuid7

from forebay.cache._copying import Copying
from forebay.cache._pending_deletions import PendingDeletions
from forebay.cache._workers import CloseGuard
from forebay.cache.artifact_key import ArtifactKey
from forebay.cache.object_storage import MissingError, ObjectStorage, TransferResult, classify
from forebay.cache.options import CacheOptions
from forebay.cache.tables import S3Transfer, TransferType

_log = logging.getLogger("forebay.cache")


@dataclass(frozen=True, slots=True)
class ReadThroughStatistics:
    """What was fetched since the cache was opened."""

    fetched: int = 0
    """Artifacts that were fetched from the object storage."""
    missing: int = 0
    """Artifacts that the object storage does not have."""
    failed: int = 0
    """Attempts that failed, or did not end within `CacheOptions.read_through_timeout`."""
    skipped: int = 0
    """Misses for which the object storage was not asked, since it was unavailable a moment ago or
    the objects of the project are being deleted."""


@dataclass(slots=True)
class _Fetch:
    """A fetch in progress, for which other readers of the key wait."""

    ended: trio.Event
    found: bool | None = None
    """None if it was cancelled."""


class ReadThrough:
    """Fetches artifacts that are not here from the object storage.

    Readers that miss one key at the same time share a fetch. While the storage is unavailable, a
    reader does not wait for it each time: after a failure it is not asked for a while, which grows
    with `CacheOptions.transfer_backoff` until it answers.
    """

    def __init__(
        self,
        storage: ObjectStorage,
        copying: Copying,
        options: CacheOptions,
        *,
        deletions: PendingDeletions,
        guard: CloseGuard | None = None,
    ) -> None:
        """Create it. `open_cache` does this.

        Args:
            storage: where the objects are.
            copying: downloads and stores artifacts.
            options: the time limit and the backoff.
            deletions: the projects whose objects are being deleted.
            guard: makes `fetch` raise once the cache is closed.
        """
        self._storage = storage
        self._copying = copying
        self._options = options
        self._deletions = deletions
        self._guard = guard or CloseGuard()
        self._fetches: dict[str, _Fetch] = {}
        self._failures = 0
        """How many fetches in a row found the storage unavailable."""
        self._asked_again_at = 0.0
        """The storage is not asked before this time of Trio's clock."""
        self._total = ReadThroughStatistics()

    def statistics(self) -> ReadThroughStatistics:
        """Return the counts since the cache was opened."""
        return self._total

    async def fetch(self, name: ArtifactKey) -> bool:
        """Fetch an artifact from the object storage, and store it here.

        An error of the storage is logged and answered like a missing object. Cancelled, it has
        changed nothing, and another reader that waits for the same key fetches it.

        Args:
            name: the artifact.

        Returns:
            Whether the artifact is here now.
        """
        self._guard.check_open()
        key = str(name)
        while (running := self._fetches.get(key)) is not None:
            await running.ended.wait()
            if running.found is not None:
                return running.found
        self._fetches[key] = fetch = _Fetch(trio.Event())
        try:
            fetch.found = await self._fetch(name)
        finally:
            del self._fetches[key]
            fetch.ended.set()
        return fetch.found

    async def _fetch(self, name: ArtifactKey) -> bool:
        key = str(name)
        if trio.current_time() < self._asked_again_at or self._deletions.covers(key):
            await trio.lowlevel.checkpoint()
            self._count("skipped")
            return False
        transfer = S3Transfer(
            id=str(uuid7()),
            type=TransferType.DOWNLOAD.value,
            account_handle=name.account,
            project_handle=name.project,
            artifact_type=name.kind,
            key=key,
            inserted_at=0,
            attempts=0,
            next_attempt_at=0,
        )
        requests = self._deletions.requests(key)

        async def wanted() -> bool:
            """Return whether the project was not deleted since the fetch began."""
            await trio.lowlevel.checkpoint()
            return requests == self._deletions.requests(key)

        try:
            with trio.fail_after(self._options.read_through_timeout):
                if not await self._storage.exists(transfer):
                    raise MissingError("the object storage does not have it")  # noqa: TRY301
                await self._copying.download(transfer, math.inf, wanted)
        except Exception as error:  # noqa: BLE001  # no error of the storage may reach a reader
            result = classify(error)
            self._back_off(result)
            if result is TransferResult.MISSING:
                self._count("missing")
            else:
                self._count("failed")
                _log.warning("%r cannot be fetched from the object storage: %r", str(name), error)
            return False
        self._failures = 0
        self._count("fetched")
        return True

    def _back_off(self, result: TransferResult) -> None:
        if result not in (TransferResult.RATE_LIMITED, TransferResult.UNAVAILABLE):
            self._failures = 0
            return
        self._failures += 1
        delay = self._options.transfer_backoff.delay(self._failures, random.random())  # noqa: S311  # jitter
        self._asked_again_at = trio.current_time() + delay

    def _count(self, what: str) -> None:
        self._total = replace(self._total, **{what: getattr(self._total, what) + 1})
