"""The tables of a build-cache server, on forebay's buffers.

A build cache keeps what build actions produced, so that other machines need not do them again.
Its server has three tables that are written at every request, each in its own shape:

* `KeyValueStore`: which artifacts an action produced, by key, read through memory;
* `CacheArtifacts`: how large each artifact's file is and when it was last used, by which the
  `Evictor` removes files before the disk is full;
* `S3Transfers`: which artifacts are to be copied to and from an object storage, which the
  `TransferWorker` does.

`open_cache` opens all of it::

    async with (
        open_s3("artifacts") as storage,
        open_cache("/var/lib/cache", storage=storage) as cache,
    ):
        await cache.key_values.put("cas-1", "tuist", "app", ["a", "b"])
        await cache.key_values.get("cas-1", "tuist", "app")  # '{"entries":[{"value":"a"},…]}'
        async with cache.files.writing("tuist/app/a") as path:
            path.write_bytes(b"…")
        await cache.artifacts.track_access("tuist/app/a")
        await cache.transfers.enqueue_upload("tuist", "app", "cas", "tuist/app/a")

It needs the extra ``forebay[cache]``. `forebay.cache.s3` is imported on its own, since it takes
boto3 with it.
"""

from __future__ import annotations

from forebay.cache._opening import Cache, CacheStatistics, open_cache
from forebay.cache.artifacts import CacheArtifacts
from forebay.cache.evictor import Evictor, EvictorStatistics
from forebay.cache.files import ArtifactFiles, Removal
from forebay.cache.key_values import KeyValueStore
from forebay.cache.object_storage import (
    MissingError,
    ObjectStorage,
    RateLimitedError,
    UnavailableError,
)
from forebay.cache.options import CacheOptions
from forebay.cache.tables import (
    CasArtifact,
    Clock,
    KeyValueEntry,
    S3Transfer,
    TransferType,
    utc_now,
)
from forebay.cache.transfer_worker import TransferStatistics, TransferWorker
from forebay.cache.transfers import S3Transfers

__all__ = [
    "ArtifactFiles",
    "Cache",
    "CacheArtifacts",
    "CacheOptions",
    "CacheStatistics",
    "CasArtifact",
    "Clock",
    "Evictor",
    "EvictorStatistics",
    "KeyValueEntry",
    "KeyValueStore",
    "MissingError",
    "ObjectStorage",
    "RateLimitedError",
    "Removal",
    "S3Transfer",
    "S3Transfers",
    "TransferStatistics",
    "TransferType",
    "TransferWorker",
    "UnavailableError",
    "open_cache",
    "utc_now",
]
