"""Databases of earlier versions are upgraded when they are opened."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from forebay.cache import ArtifactKey
from tests.cache.test_key_values import payload
from tests.cache.tools import NOON, FakeStorage, opened, write_file

VERSION_0_1 = """
CREATE TABLE key_value_entries (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, json_payload TEXT NOT NULL,
    last_accessed_at INTEGER NOT NULL, inserted_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
);
CREATE TABLE cas_artifacts (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, size_bytes INTEGER,
    last_accessed_at INTEGER NOT NULL, inserted_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
);
CREATE INDEX cas_artifacts_last_accessed_at ON cas_artifacts (last_accessed_at, key);
CREATE TABLE s3_transfers (
    id TEXT NOT NULL PRIMARY KEY, type TEXT NOT NULL CHECK (type IN ('upload', 'download')),
    account_handle TEXT NOT NULL, project_handle TEXT NOT NULL, artifact_type TEXT NOT NULL,
    key TEXT NOT NULL, inserted_at INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    next_attempt_at INTEGER NOT NULL DEFAULT 0, UNIQUE (type, key)
);
CREATE INDEX s3_transfers_queue ON s3_transfers (type, inserted_at, id, next_attempt_at);
"""


async def test_a_database_of_version_0_1_is_upgraded(tmp_path: Path) -> None:
    """Nothing in it is lost, and everything new works with it."""
    name = ArtifactKey("acme", "app", "cas", "old")
    storage = FakeStorage()
    async with opened(tmp_path) as cache:
        await write_file(cache, str(name), 3)
    (tmp_path / "cache.db").unlink()
    with closing(sqlite3.connect(tmp_path / "cache.db")) as raw, raw:
        raw.executescript(VERSION_0_1)
        raw.execute(
            "INSERT INTO key_value_entries VALUES (7, 'keyvalue:acme:app:id', ?, ?, 1, 2)",
            (payload("é"), NOON),
        )
        raw.execute("INSERT INTO cas_artifacts VALUES (7, ?, 3, ?, 1, 2)", (str(name), NOON))
        raw.execute(
            "INSERT INTO s3_transfers VALUES ('x', 'upload', 'acme', 'app', 'cas', ?, 5, 3, 0)",
            (str(name),),
        )
    for _ in range(2):
        async with opened(tmp_path, storage=storage) as cache:
            [row] = await cache.store.fetch_all(
                "SELECT size_bytes, written_at, last_accessed_at FROM key_value_entries"
            )
            assert (len(payload("é").encode()), 2, NOON) == row
            assert payload("é") == await cache.key_values.get("id", "acme", "app")
            [transfer] = await cache.transfers.pending("upload", 10)
            assert ("x", 3, "", str(name)) == (
                transfer.id,
                transfer.attempts,
                transfer.sha256,
                transfer.key,
            )
    async with opened(tmp_path, storage=storage) as cache:
        assert cache.transfer_worker is not None
        await cache.transfer_worker.run_once()
        assert {str(name): bytes(3)} == storage.objects
        await cache.store_artifact(name, b"new")
        await cache.transfer_worker.run_once()
        assert {str(name): b"new"} == storage.objects
        await cache.key_values.put_bytes("id", "acme", "app", b"\0")
    async with opened(tmp_path) as cache:
        assert b"\0" == await cache.key_values.get_bytes("id", "acme", "app")
