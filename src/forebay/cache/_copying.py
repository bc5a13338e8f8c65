"""`Copying`: what the object storage is asked to do for one transfer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from forebay.cache.artifacts import CacheArtifacts
from forebay.cache.files import ArtifactFiles
from forebay.cache.object_storage import MissingError, ObjectInfo, ObjectStorage
from forebay.cache.tables import S3Transfer


class Copying:
    """Copies artifacts with their SHA-256 and metadata, and records what the storage has.

    It also deletes the objects of a project.
    """

    def __init__(
        self, storage: ObjectStorage, artifacts: CacheArtifacts, files: ArtifactFiles
    ) -> None:
        """Set the storage and the artifacts.

        Args:
            storage: where the objects are.
            artifacts: the artifacts.
            files: their files.
        """
        self._storage = storage
        self._artifacts = artifacts
        self._files = files

    async def upload(self, transfer: S3Transfer, time_limit: float) -> bool:
        """Upload the content of an artifact.

        Args:
            transfer: the artifact.
            time_limit: how long the storage may take, in seconds.

        Returns:
            Whether the transfer is done. False if the artifact was stored again during the upload,
            with the content of the transfer: the storage may have what it had before or meanwhile.

        Raises:
            MissingError: the artifact does not have the content of the transfer any more.
            Exception: as `ObjectStorage.upload`.
        """
        before = await self._artifacts.current(transfer.key)
        if transfer.sha256 and (before is None or before.sha256 != transfer.sha256):
            raise MissingError("the artifact does not have this content any more")
        info = ObjectInfo() if before is None else ObjectInfo(before.sha256, before.metadata)
        with trio.fail_after(time_limit):
            await self._storage.upload(transfer, self._files.path(transfer.key), info)
        if before is None or before.sha256 is None:
            return True
        after = await self._artifacts.current(transfer.key)
        if after is None or after.stored_at != before.stored_at:
            return after is None or transfer.sha256 not in ("", after.sha256)
        await self._artifacts.mark_uploaded(transfer.key, before.sha256)
        return True

    async def download(
        self, transfer: S3Transfer, time_limit: float, wanted: Callable[[], Awaitable[bool]]
    ) -> None:
        """Download an object, and store it as an artifact.

        Args:
            transfer: the artifact.
            time_limit: how long the storage may take, in seconds.
            wanted: asked after the download; returns whether to store the artifact.

        Raises:
            MissingError: there is no object, or it is not wanted any more.
            DigestMismatchError: the content does not have the SHA-256 that it had at its upload.
            Exception: as `ObjectStorage.download`.
        """
        async with self._files.scratch() as path:
            with trio.fail_after(time_limit):
                info = await self._storage.download(transfer, path)
            if not await wanted():
                raise MissingError("the transfer was removed from the queue meanwhile")
            stored = await self._artifacts.store(
                transfer.key, self._files.chunks(path), sha256=info.sha256, metadata=info.metadata
            )
        if stored.sha256 is not None:
            await self._artifacts.mark_uploaded(transfer.key, stored.sha256)

    async def delete_project(self, transfer: S3Transfer, time_limit: float) -> None:
        """Delete the objects of a project.

        Args:
            transfer: the deletion.
            time_limit: how long the storage may take, in seconds.

        Raises:
            Exception: as `ObjectStorage.delete_project`.
        """
        with trio.fail_after(time_limit):
            await self._storage.delete_project(transfer.account_handle, transfer.project_handle)
