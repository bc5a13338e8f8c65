"""`S3Storage`: an `ObjectStorage` for S3 and compatible servers, with boto3 in threads."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar, TypeVarTuple, cast

import anyio
import anyio.from_thread
import anyio.to_thread
import boto3
import trio
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from forebay.cache._arguments import check_seconds, checked_limit
from forebay.cache._s3_deletion import DeletingClient, delete_project
from forebay.cache._s3_errors import translate
from forebay.cache._s3_metadata import info_of, metadata_of
from forebay.cache.object_names import object_name
from forebay.cache.object_storage import MissingError, ObjectInfo
from forebay.cache.tables import S3Transfer

# Each call has a thread already. Threads that boto3 starts would not count in its limiter.
_ONE_THREAD = TransferConfig(use_threads=False)

_CHUNK = 16 * 1024
"""How many bytes of a download are read between two checks for cancellation."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class S3Client(DeletingClient, Protocol):
    """The methods of boto3's S3 client that are used, from many threads at once."""

    def upload_fileobj(
        self,
        Fileobj: BinaryIO,  # noqa: N803  # boto3's names
        Bucket: str,  # noqa: N803  # boto3's name
        Key: str,  # noqa: N803  # boto3's name
        *,
        Callback: Callable[[int], None],  # noqa: N803  # boto3's name
        Config: TransferConfig,  # noqa: N803  # boto3's name
        ExtraArgs: Mapping[str, Any],  # noqa: N803  # boto3's name
    ) -> None:
        """Write an object."""
        ...

    def get_object(
        self,
        *,
        Bucket: str,  # noqa: N803  # boto3's names
        Key: str,  # noqa: N803  # boto3's name
        Range: str = ...,  # noqa: N803  # boto3's name
    ) -> Mapping[str, Any]:
        """Read an object or a range of its bytes. The caller reads and closes its `Body`."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


class S3Storage:
    """One bucket of S3 or of a compatible server. `open_s3` opens it.

    The name of an object is `forebay.cache.object_names.object_name` of the artifact's key, which
    for an ordinary key is the key itself. The metadata of an object has, percent-encoded:

    * `forebay-sha256`: the SHA-256 of the content, if it is known;
    * `forebay-metadata`: the texts that were stored with the artifact, as JSON, if there are any;
    * `forebay-key`: the artifact's key, if the name has only a hash of it and there is space.

    A call is one attempt; the transfer worker retries and backs off.

    A call runs in a thread, which cannot be interrupted. Cancelled, a call returns at once. Its
    thread ends after the next 16 KiB of a download, after the next block of an upload, or when
    `open_s3`'s timeouts expire; these bound each wait for the server, not the sum of all waits.
    Until then the thread counts towards the `concurrency`.
    """

    def __init__(self, client: S3Client, bucket: str, *, concurrency: int) -> None:
        """Wrap a client. `open_s3` creates a suitable one.

        Args:
            client: boto3's S3 client, configured not to retry.
            bucket: the bucket's name.
            concurrency: how many calls may be in progress at once.
        """
        self._client = client
        self._bucket = bucket
        self._threads = anyio.CapacityLimiter(concurrency)

    def __repr__(self) -> str:
        return f"<forebay.cache.s3.S3Storage {self._bucket!r}>"

    async def upload(self, transfer: S3Transfer, path: Path, info: ObjectInfo) -> None:
        """Copy a file to an object, a large file in parts. Cancelled, it may still complete.

        Args:
            transfer: the artifact to copy.
            path: the file. A symbolic link is refused with OSError.
            info: what to keep with the object.

        Raises:
            RateLimitedError: the server answered 429 or 503, or with a code for too many requests.
            UnavailableError: the server did not answer in time; it answered 401, 403, 407, 408 or
                500 and above; credentials are missing or expired; or the bucket does not exist.
            MissingError: the file does not exist.
            ValueError: `info` has more than the 2,000 bytes that S3 has space for.
            botocore.exceptions.ClientError: the server refused the request for another reason.
            botocore.exceptions.BotoCoreError: the request cannot be made or its response not read.
        """
        await self._call(self._upload, transfer.key, path, info)

    def _upload(self, key: str, path: Path, info: ObjectInfo) -> None:
        name = object_name(key)
        metadata = metadata_of(key, name, info)
        try:
            body = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")
        except FileNotFoundError as error:
            raise MissingError(f"the file {os.fspath(path)!r} does not exist") from error
        with body:
            self._client.upload_fileobj(
                body,
                self._bucket,
                name,
                Callback=_check_cancelled,
                Config=_ONE_THREAD,
                ExtraArgs={"Metadata": metadata},
            )

    async def download(self, transfer: S3Transfer, path: Path) -> ObjectInfo:
        """Copy an object to a file. Cancelled, it may still write to the file.

        Args:
            transfer: the artifact to copy.
            path: the file.

        Returns:
            What was kept with the object.

        Raises:
            RateLimitedError: the server answered 429 or 503, or with a code for too many requests.
            UnavailableError: the server did not answer in time; it answered 401, 403, 407, 408 or
                500 and above; credentials are missing or expired; or the bucket does not exist.
            MissingError: the object does not exist.
            ValueError: the metadata of the object cannot be read.
            botocore.exceptions.ClientError: the server refused the request for another reason.
            botocore.exceptions.BotoCoreError: the request cannot be made or its response not read.
        """
        return await self._call(self._download, transfer.key, path)

    def _download(self, key: str, path: Path) -> ObjectInfo:
        # Not download_fileobj: it requests the head first, whose response is the same for a missing
        # object and a missing bucket.
        response = self._client.get_object(Bucket=self._bucket, Key=object_name(key))
        with closing(response["Body"]) as body:
            # While the server was silent, the call may have been cancelled and the file removed.
            _check_cancelled()
            with path.open("wb") as file:
                while chunk := body.read(_CHUNK):
                    _check_cancelled()
                    file.write(chunk)
        return info_of(response["Metadata"])

    async def exists(self, transfer: S3Transfer) -> bool:
        """Return whether there is an object of this artifact.

        Args:
            transfer: the artifact.

        Raises:
            RateLimitedError: as for `download`.
            UnavailableError: as for `download`.
            botocore.exceptions.ClientError: the server refused the request for another reason.
            botocore.exceptions.BotoCoreError: the request cannot be made or its response not read.
        """
        try:
            await self._call(self._read_a_byte, transfer.key)
        except MissingError:
            return False
        except ClientError as error:
            # An empty object has no first byte.
            if error.response.get("Error", {}).get("Code") == "InvalidRange":
                return True
            raise
        return True

    def _read_a_byte(self, key: str) -> None:
        # Not head_object, for the same reason as in `_download`.
        response = self._client.get_object(
            Bucket=self._bucket, Key=object_name(key), Range="bytes=0-0"
        )
        with closing(response["Body"]) as body:
            body.read(1)

    async def delete_project(self, account: str, project: str) -> None:
        """Delete the objects of all artifacts whose keys begin with ``account/project/``.

        Deletes 1,000 objects per request. Objects whose names have only a hash of their key are
        found by their metadata, with a request for each in the bucket. Cancelled, it may still
        delete as many as one request does.

        Args:
            account: the account's handle.
            project: the project's handle.

        Raises:
            RateLimitedError: as for `download`.
            UnavailableError: as for `download`.
            botocore.exceptions.ClientError: the server refused a request for another reason, or to
                delete an object.
            botocore.exceptions.BotoCoreError: the request cannot be made or its response not read.
        """
        prefix = f"{account}/{project}/"
        await self._call(delete_project, self._client, self._bucket, prefix, _check_cancelled)

    async def _call(self, call: Callable[[*Ts], T], *arguments: *Ts) -> T:
        try:
            return await anyio.to_thread.run_sync(
                call, *arguments, limiter=self._threads, abandon_on_cancel=True
            )
        except (ClientError, BotoCoreError) as error:
            translated = translate(error)
            if translated is error:
                raise
            raise translated from error


class _CancelledError(Exception):
    """Raised in the thread of a cancelled call, so that boto3 cleans up after it."""


def _check_cancelled(_sent: int = 0) -> None:
    try:
        anyio.from_thread.check_cancelled()
    except trio.Cancelled:
        raise _CancelledError from None


@asynccontextmanager
async def open_s3(
    bucket: str,
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
    concurrency: int = 50,
    connect_timeout: float = 5.0,
    read_timeout: float = 60.0,
) -> AsyncGenerator[S3Storage, None]:
    """Open a bucket for the duration of an `async with` block.

    boto3 finds the credentials and other settings: in the environment, in ``~/.aws``, or from the
    role of the machine. No request is made, so a missing bucket is noticed by the first transfer.

    Cancelled before its thread starts, it opens nothing. Cancelled later, it opens the client and
    closes it when the block ends.

    Args:
        bucket: the bucket's name.
        endpoint_url: the URL of the server; None for Amazon's.
        region: the region; None for the one in boto3's settings.
        concurrency: the maximum number of connections and threads. Use the cache's
            `transfer_concurrency`.
        connect_timeout: the time limit to connect, in seconds.
        read_timeout: how long the server may be silent, in seconds.

    Yields:
        The storage, for `open_cache`.

    Raises:
        botocore.exceptions.BotoCoreError: the arguments or boto3's settings are invalid.
        TypeError: `concurrency` is not an int, or a timeout is not a number.
        ValueError: `concurrency` or a timeout is out of range, or the URL is invalid.
    """
    checked_limit("concurrency", concurrency)
    check_seconds("connect_timeout", connect_timeout)
    check_seconds("read_timeout", read_timeout)
    config = Config(
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        max_pool_connections=concurrency,
        retries={"total_max_attempts": 1, "mode": "standard"},
    )

    def client() -> S3Client:
        session: Any = boto3.session.Session()  # boto3's stubs do not know our S3Client
        return cast(
            "S3Client",
            session.client("s3", endpoint_url=endpoint_url, region_name=region, config=config),
        )

    opened = await anyio.to_thread.run_sync(client, limiter=anyio.CapacityLimiter(1))
    with closing(opened):
        yield S3Storage(opened, bucket, concurrency=concurrency)
