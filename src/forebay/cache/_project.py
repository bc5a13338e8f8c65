"""Deletes everything of a project."""

from __future__ import annotations

from dataclasses import dataclass

import trio

from forebay import Buffer, SqliteStore
from forebay.cache._entries import entry_prefix
from forebay.cache.artifacts import BATCH, CacheArtifacts
from forebay.cache.key_values import KeyValueStore
from forebay.cache.tables import KeyValueEntry
from forebay.cache.transfers import S3Transfers


@dataclass(frozen=True, slots=True)
class ProjectDeletion:
    """How much of a project `Cache.delete_project` deleted."""

    artifacts: int
    """Artifacts: their files and rows."""
    key_values: int
    """Values of `KeyValueStore`."""
    transfers: int
    """Queued transfers."""


async def delete_project(
    store: SqliteStore,
    buffer: Buffer[KeyValueEntry],
    key_values: KeyValueStore,
    artifacts: CacheArtifacts,
    transfers: S3Transfers,
    *,
    account: str,
    project: str,
    deletes_objects: bool,
    flush_timeout: float,
) -> ProjectDeletion:
    """Delete everything of a project: see `Cache.delete_project`."""
    if deletes_objects:
        # Before anything else: a crash must not leave objects that nobody knows of any more.
        await transfers.enqueue_deletion(account, project, flush_timeout=flush_timeout)
    # The transfers first: otherwise an upload could find its file missing.
    removed = await transfers.delete_project(account, project, flush_timeout=flush_timeout)
    deleted = await artifacts.delete_project(account, project, flush_timeout=flush_timeout)
    prefix = entry_prefix(account, project)
    with trio.move_on_after(flush_timeout):
        await buffer.flush()
    # Those in memory too: without a flush, the table does not have the latest ones.
    keys = set(key_values.cached_keys(prefix))
    await key_values.delete_entries(keys)
    count, last = len(keys), prefix
    # The character after ":" ends the range.
    while rows := await store.fetch_all(
        "SELECT key FROM key_value_entries WHERE key > ? AND key < ? ORDER BY key LIMIT ?",
        (last, f"{prefix[:-1]};", BATCH),
    ):
        found = [key for (key,) in rows if key not in keys]
        await key_values.delete_entries(found)
        count += len(found)
        last = rows[-1][0]
    return ProjectDeletion(artifacts=deleted, key_values=count, transfers=removed)
