"""The storage of a build-cache server, built on forebay's buffers.

A build cache keeps the results of build actions, so that other machines need not run the same
actions again. Its server writes to three tables at every request:

* `KeyValueStore`: the artifacts that each action produced, cached in memory, until the
  `KeyValueEvictor` removes them;
* `CacheArtifacts`: the artifacts themselves: their files, and the table with their sizes, digests
  and last accesses, by which the `Evictor` removes files before the disk is full;
* `S3Transfers`: the queue of artifacts to copy to and from an object storage, which the
  `TransferWorker` works through; `ReadThrough` fetches what a reader misses.

`open_cache` opens all of them::

    async with (
        open_s3("artifacts") as storage,
        open_cache("/var/lib/cache", storage=storage) as cache,
    ):
        await cache.key_values.put("cas-1", "tuist", "app", ["a", "b"])
        await cache.key_values.get("cas-1", "tuist", "app")  # '{"entries":[{"value":"a"},…]}'
        name = ArtifactKey("tuist", "app", "cas", "a")
        await cache.store_artifact(name, b"…")  # and queue its upload
        async with cache.reading_artifact(name) as reader:  # from the storage, if it is not here
            ...  # reader.file, reader.artifact.size

Install the extra ``forebay[cache]``. `forebay.cache.s3` is not imported here, since it imports
boto3.
"""

from __future__ import annotations

from forebay.cache._cache import Cache
from forebay.cache._opening import open_cache
from forebay.cache._project import ProjectDeletion
from forebay.cache._statistics import CacheStatistics
from forebay.cache._workers import CloseGuard
from forebay.cache.artifact import (
    Artifact,
    ArtifactReader,
    ArtifactStatistics,
    DigestMismatchError,
    SizeMismatchError,
)
from forebay.cache.artifact_key import ArtifactKey
from forebay.cache.artifacts import CacheArtifacts
from forebay.cache.evictor import Evictor, EvictorStatistics
from forebay.cache.files import ArtifactFiles, Removal, Usage
from forebay.cache.key_value_evictor import KeyValueEvictor
from forebay.cache.key_values import KeyValueStatistics, KeyValueStore
from forebay.cache.object_storage import (
    MissingError,
    ObjectInfo,
    ObjectStorage,
    RateLimitedError,
    UnavailableError,
)
from forebay.cache.options import CacheOptions
from forebay.cache.read_through import ReadThrough, ReadThroughStatistics
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
from forebay.cache.vacuum import DatabaseVacuum

__all__ = [
    "Artifact",
    "ArtifactFiles",
    "ArtifactKey",
    "ArtifactReader",
    "ArtifactStatistics",
    "Cache",
    "CacheArtifacts",
    "CacheOptions",
    "CacheStatistics",
    "CasArtifact",
    "Clock",
    "CloseGuard",
    "DatabaseVacuum",
    "DigestMismatchError",
    "Evictor",
    "EvictorStatistics",
    "KeyValueEntry",
    "KeyValueEvictor",
    "KeyValueStatistics",
    "KeyValueStore",
    "MissingError",
    "ObjectInfo",
    "ObjectStorage",
    "ProjectDeletion",
    "RateLimitedError",
    "ReadThrough",
    "ReadThroughStatistics",
    "Removal",
    "S3Transfer",
    "S3Transfers",
    "SizeMismatchError",
    "TransferStatistics",
    "TransferType",
    "TransferWorker",
    "UnavailableError",
    "Usage",
    "open_cache",
    "utc_now",
]
