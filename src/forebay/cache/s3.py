"""`S3Storage`: an `ObjectStorage` over S3's API, by boto3 in threads."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import anyio
import anyio.from_thread
import anyio.to_thread
import boto3
import trio
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from forebay.cache._check import checked_limit, checked_seconds
from forebay.cache._s3_errors import translated
from forebay.cache.object_storage import MissingError

# A call has a thread already; more of them would not be bounded by its limiter.
_ONE_THREAD = TransferConfig(use_threads=False)

_CHUNK = 16 * 1024
"""How many bytes of a download are read between two looks at whether it is still wanted."""


class S3Client(Protocol):
    """What is used of boto3's client of S3; it may be called from many threads at once."""

    def upload_fileobj(
        self,
        Fileobj: BinaryIO,  # noqa: N803  # boto3's names
        Bucket: str,  # noqa: N803
        Key: str,  # noqa: N803
        *,
        Callback: Callable[[int], None],  # noqa: N803
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
    the transfer worker's.

    A call runs in a thread, which cannot be interrupted. Cancelled, a call returns at once, and
    its thread ends when it has the next 16 KiB of a download, has sent the next block of an
    upload, or has waited `open_s3`'s timeouts for the server: these bound each silence of the
    server, not the sum of them. Until then it counts among the `concurrency`.
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
        """Copy a file to an object; a large one in parts. Cancelled, it may be done yet.

        Args:
            key: the object's key.
            path: the file.

        Raises:
            RateLimitedError: the server answered 429 or 503, or asks for fewer requests.
            UnavailableError: the server did not answer, or not in time; or it answered 401, 403,
                407, 408 or 500 and above; or there are no credentials, or they are used no
                more; or there is no such bucket.
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
            self._client.upload_fileobj(
                body, self._bucket, key, Callback=_check_wanted, Config=_ONE_THREAD
            )

    async def download(self, key: str, path: Path) -> None:
        """Copy an object to a file. Cancelled, it may write to that yet.

        Args:
            key: the object's key.
            path: the file.

        Raises:
            RateLimitedError: the server answered 429 or 503, or asks for fewer requests.
            UnavailableError: the server did not answer, or not in time; or it answered 401, 403,
                407, 408 or 500 and above; or there are no credentials, or they are used no
                more; or there is no such bucket.
            MissingError: there is no such object.
            botocore.exceptions.ClientError: the server refused in another way.
            botocore.exceptions.BotoCoreError: the request cannot be made, or the answer not read.
        """
        await self._call(self._download, key, path)

    def _download(self, key: str, path: Path) -> None:
        # Not download_fileobj: it asks for the head first, and an answer to that cannot tell a
        # missing object from a missing bucket.
        answer = self._client.get_object(Bucket=self._bucket, Key=key)
        with closing(answer["Body"]) as body:
            # The answer may have taken long, and the file be discarded by now.
            _check_wanted()
            with path.open("wb") as file:
                while chunk := body.read(_CHUNK):
                    _check_wanted()
                    file.write(chunk)

    async def _call(self, call: Callable[[str, Path], None], key: str, path: Path) -> None:
        try:
            await anyio.to_thread.run_sync(
                call, key, path, limiter=self._threads, abandon_on_cancel=True
            )
        except (ClientError, BotoCoreError) as error:
            told = translated(error)
            if told is error:
                raise
            raise told from error


class _UnwantedError(Exception):
    """The call was cancelled; nobody hears of this, but boto3, which tidies up after it."""


def _check_wanted(_sent: int = 0) -> None:
    try:
        anyio.from_thread.check_cancelled()
    except trio.Cancelled:
        raise _UnwantedError from None


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
        TypeError: `concurrency`, or a timeout, is no number.
        ValueError: one is out of range; or the endpoint's URL is none.
    """
    checked_limit("concurrency", concurrency)
    checked_seconds("connect_timeout", connect_timeout)
    checked_seconds("read_timeout", read_timeout)
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
