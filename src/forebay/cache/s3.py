"""`S3Storage`: an `ObjectStorage` over S3's API, by boto3 in threads."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import anyio
import anyio.to_thread
import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionError,  # noqa: A004  # boto3's name
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    TokenRetrievalError,
)

from forebay.cache.object_storage import MissingError, RateLimitedError, UnavailableError

_RATE_LIMITED = frozenset({429, 503})

_SERVER_ERROR = 500

# Credentials that are refused are so for every object, or for none: see `UnavailableError`.
_REFUSED = frozenset({401, 403})

# A request that reached no server, or whose answer did not arrive, or that nobody could sign.
_UNANSWERED = (
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    TokenRetrievalError,
)

# A call has a thread already; more of them would not be bounded by its limiter.
_ONE_THREAD = TransferConfig(use_threads=False)


class S3Client(Protocol):
    """What is used of boto3's client of S3; it may be called from many threads at once."""

    def upload_fileobj(
        self,
        Fileobj: BinaryIO,  # noqa: N803  # boto3's names
        Bucket: str,  # noqa: N803
        Key: str,  # noqa: N803
        *,
        Config: TransferConfig,  # noqa: N803
    ) -> None:
        """Write an object."""
        ...

    def get_object(self, *, Bucket: str, Key: str) -> Mapping[str, Any]:  # noqa: N803
        """Read an object; its `Body` is to be read and closed."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


class S3Storage:
    """One bucket of S3, or of a server that speaks its API. `open_s3` opens it.

    Objects have the artifacts' keys. A call is one attempt: retrying, and waiting before it, is
    the transfer worker's. A call runs in a thread, which cannot be cancelled: its timeouts bound
    it.
    """

    def __init__(self, client: S3Client, bucket: str, *, concurrency: int) -> None:
        """Wrap a client; `open_s3` makes one that suits.

        Args:
            client: boto3's client of S3, made with no retries of its own.
            bucket: the bucket's name.
            concurrency: how many calls may be under way at once.
        """
        self._client = client
        self._bucket = bucket
        self._threads = anyio.CapacityLimiter(concurrency)

    def __repr__(self) -> str:
        return f"<forebay.cache.s3.S3Storage {self._bucket!r}>"

    async def upload(self, key: str, path: Path) -> None:
        """Copy a file to an object; a large one in parts. Cancelled, it runs to its end.

        Args:
            key: the object's key.
            path: the file.

        Raises:
            RateLimitedError: the server answered 429 or 503.
            UnavailableError: the server did not answer, or not in time; or it answered 401, 403
                or 500 and above; or there are no credentials, or no such bucket.
            MissingError: there is no file.
            botocore.exceptions.ClientError: the server refused in another way.
            botocore.exceptions.BotoCoreError: the request cannot be made, or the answer not read.
        """
        await self._call(self._upload, key, path)

    def _upload(self, key: str, path: Path) -> None:
        try:
            body = path.open("rb")
        except FileNotFoundError as error:
            raise MissingError(f"there is no file {os.fspath(path)!r}") from error
        with body:
            self._client.upload_fileobj(body, self._bucket, key, Config=_ONE_THREAD)

    async def download(self, key: str, path: Path) -> None:
        """Copy an object to a file. Cancelled, it runs to its end.

        Args:
            key: the object's key.
            path: the file.

        Raises:
            RateLimitedError: the server answered 429 or 503.
            UnavailableError: the server did not answer, or not in time; or it answered 401, 403
                or 500 and above; or there are no credentials, or no such bucket.
            MissingError: there is no such object.
            botocore.exceptions.ClientError: the server refused in another way.
            botocore.exceptions.BotoCoreError: the request cannot be made, or the answer not read.
        """
        await self._call(self._download, key, path)

    def _download(self, key: str, path: Path) -> None:
        # Not download_fileobj: it asks for the head first, and an answer to that cannot tell a
        # missing object from a missing bucket.
        answer = self._client.get_object(Bucket=self._bucket, Key=key)
        with closing(answer["Body"]) as body, path.open("wb") as file:
            shutil.copyfileobj(body, file)

    async def _call(self, call: Callable[[str, Path], None], key: str, path: Path) -> None:
        try:
            await anyio.to_thread.run_sync(call, key, path, limiter=self._threads)
        except ClientError as error:
            answer = cast("Mapping[str, Any]", error.response)
            status, code = answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]
            if status in _RATE_LIMITED:
                raise RateLimitedError(str(error)) from error
            if code == "NoSuchKey":
                raise MissingError(str(error)) from error
            if status in _REFUSED or status >= _SERVER_ERROR or code == "NoSuchBucket":
                raise UnavailableError(str(error)) from error
            raise
        except _UNANSWERED as error:
            raise UnavailableError(str(error)) from error


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
    """Open a bucket, for the time of an `async with` block.

    Credentials, and what is not given here, are found as boto3 finds them: in the environment,
    in ``~/.aws``, by the role of the machine. No call is made: a bucket that is not there shows
    in the first transfer.

    Cancelled before its thread starts, it leaves no trace; after that it opens, and leaving the
    block closes.

    Args:
        bucket: the bucket's name.
        endpoint_url: the server, where it is not Amazon's.
        region: the region.
        concurrency: how many connections, and threads, there may be. Let it be the cache's
            `transfer_concurrency`.
        connect_timeout: how long a connection may take, in seconds.
        read_timeout: how long the server may be silent, in seconds.

    Yields:
        The storage, for `open_cache`.

    Raises:
        botocore.exceptions.BotoCoreError: the arguments, or boto3's settings, cannot be used.
        ValueError: as before, of the endpoint's URL.
    """
    config = Config(
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        max_pool_connections=concurrency,
        retries={"total_max_attempts": 1, "mode": "standard"},
    )

    def client() -> S3Client:
        session: Any = boto3.session.Session()  # its stubs know no S3Client of ours
        return cast(
            "S3Client",
            session.client("s3", endpoint_url=endpoint_url, region_name=region, config=config),
        )

    opened = await anyio.to_thread.run_sync(client, limiter=anyio.CapacityLimiter(1))
    with closing(opened):
        yield S3Storage(opened, bucket, concurrency=concurrency)
