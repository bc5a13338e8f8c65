"""`S3Storage` against a real server with S3's API, and against one with scripted answers."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
import trio
from botocore.exceptions import ClientError

from forebay.cache import (
    ArtifactKey,
    MissingError,
    ObjectInfo,
    RateLimitedError,
    TransferStatistics,
    TransferType,
    UnavailableError,
)
from forebay.cache.object_names import object_name
from forebay.cache.s3 import open_s3
from tests.cache.object_servers import moto, seaweedfs, why_no_seaweedfs
from tests.cache.tools import ODD_TEXTS, opened, transfer, worker
from tests.required import skip

TIME = 30.0


@pytest.fixture(
    scope="module", params=["moto", pytest.param("seaweedfs", marks=pytest.mark.seaweedfs)]
)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[str, None, None]:
    """The URL of a server on loopback, in another process."""
    if request.param == "moto":
        running = moto()
    elif reason := why_no_seaweedfs():
        skip("seaweedfs", reason)
    else:
        running = seaweedfs(tmp_path_factory.mktemp("seaweedfs"))
    with running as url:
        yield url


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set dummy credentials, and keep boto3 from reading those of this machine."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


@pytest.fixture
def bucket(server: str, credentials: None, request: pytest.FixtureRequest) -> str:
    """A new bucket per test."""
    del credentials
    client: Any = boto3.client("s3", endpoint_url=server)
    name = f"bucket-{abs(hash(request.node.nodeid))}"
    client.create_bucket(Bucket=name)
    client.close()
    return name


async def test_a_file_is_uploaded_and_downloaded(server: str, bucket: str, tmp_path: Path) -> None:
    """The content is the same, and an upload replaces the object."""
    source, target = tmp_path / "source", tmp_path / "target"
    async with open_s3(bucket, endpoint_url=server) as storage:
        for content in (b"first", b"", bytes(range(256)) * 1_000):
            source.write_bytes(content)
            await storage.upload(transfer("acme/app/a"), source, ObjectInfo())
            await storage.download(transfer("acme/app/a"), target)
            assert content == target.read_bytes()


async def test_a_large_file_is_uploaded_in_parts(server: str, bucket: str, tmp_path: Path) -> None:
    """A file of several parts of 8 MiB has the same content after a download."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(20 * 2**20))
    async with open_s3(bucket, endpoint_url=server) as storage:
        await storage.upload(transfer("large"), source, ObjectInfo())
        await storage.download(transfer("large"), target)
    assert source.read_bytes() == target.read_bytes()
    client: Any = boto3.client("s3", endpoint_url=server)
    assert client.head_object(Bucket=bucket, Key="large")["ETag"].endswith('-3"')
    client.close()


async def test_a_missing_object_differs_from_a_missing_bucket(
    server: str, bucket: str, tmp_path: Path
) -> None:
    """Without the object there is nothing to transfer; an operator can create the bucket."""
    async with open_s3(bucket, endpoint_url=server) as storage:
        with pytest.raises(MissingError, match="NoSuchKey"):
            await storage.download(transfer("none"), tmp_path / "target")
        with pytest.raises(MissingError, match="does not exist"):
            await storage.upload(transfer("none"), tmp_path / "none", ObjectInfo())
    async with open_s3("no-such-bucket", endpoint_url=server) as storage:
        with pytest.raises(UnavailableError, match="NoSuchBucket"):
            await storage.download(transfer("none"), tmp_path / "target")


async def test_a_symbolic_link_is_not_uploaded(server: str, bucket: str, tmp_path: Path) -> None:
    """A link in place of an artifact's file does not upload another file."""
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    async with open_s3(bucket, endpoint_url=server) as storage:
        with pytest.raises(OSError, match="symbolic links") as caught:
            await storage.upload(transfer("a"), tmp_path / "link", ObjectInfo())
        assert errno.ELOOP == caught.value.errno
        with pytest.raises(MissingError):
            await storage.download(transfer("a"), tmp_path / "target")


async def test_odd_keys_are_different_objects(server: str, bucket: str, tmp_path: Path) -> None:
    """Servers refuse some of these keys as names, and would take others for paths."""
    odd = [*ODD_TEXTS, "a/../b", "a/./b", "a//b", "/a", "a/", "..", "x" * 300, "y" * 2_000]
    keys = [*(f"acme/app/{text}" for text in odd), "/", "..", "/etc/passwd", "a\0/b"]
    async with open_s3(bucket, endpoint_url=server) as storage:
        for i, key in enumerate(keys):
            (tmp_path / "source").write_text(str(i))
            await storage.upload(transfer(key), tmp_path / "source", ObjectInfo())
        for i, key in enumerate(keys):
            await storage.download(transfer(key), tmp_path / "target")
            assert str(i) == (tmp_path / "target").read_text()


async def test_an_object_exists_once_it_is_uploaded(
    server: str, bucket: str, tmp_path: Path
) -> None:
    """An empty object exists as well. A missing bucket is an error."""
    async with open_s3(bucket, endpoint_url=server) as storage:
        for key, content in (("a", b"x"), ("b", b""), ("../c", bytes(100_000))):
            (tmp_path / "source").write_bytes(content)
            assert not await storage.exists(transfer(key))
            await storage.upload(transfer(key), tmp_path / "source", ObjectInfo())
            assert await storage.exists(transfer(key))
    async with open_s3("no-such-bucket", endpoint_url=server) as storage:
        with pytest.raises(UnavailableError, match="NoSuchBucket"):
            await storage.exists(transfer("a"))


async def test_an_object_keeps_the_sha256_and_the_metadata_of_its_artifact(
    server: str, bucket: str, tmp_path: Path
) -> None:
    """Also with long keys and texts that are not ASCII. What has no space is refused."""
    (tmp_path / "source").write_bytes(b"x")
    infos = [
        ObjectInfo(),
        ObjectInfo("a" * 64),
        ObjectInfo("b" * 64, {"content-type": "text/plain", "tag": "é ü\n", "Ä": ""}),
        ObjectInfo(None, {"large": "x" * 1_900}),
    ]
    async with open_s3(bucket, endpoint_url=server) as storage:
        for key in ("a", "x" * 1_500, "\0"):
            for info in infos:
                await storage.upload(transfer(key), tmp_path / "source", info)
                assert info == await storage.download(transfer(key), tmp_path / "target")
        with pytest.raises(ValueError, match="the metadata of artifact 'a' needs 2"):
            await storage.upload(
                transfer("a"), tmp_path / "source", ObjectInfo(None, {"n": "x" * 2_048})
            )


@pytest.mark.parametrize(
    "metadata", [{"forebay-sha256": "abc"}, {"forebay-metadata": "{"}, {"forebay-metadata": "[]"}]
)
async def test_metadata_that_cannot_be_read_fails_the_download(
    server: str, bucket: str, tmp_path: Path, metadata: dict[str, str]
) -> None:
    """Objects of other programs have none of ours, and are accepted."""
    client: Any = boto3.client("s3", endpoint_url=server)
    async with open_s3(bucket, endpoint_url=server) as storage:
        client.put_object(Bucket=bucket, Key="other", Body=b"x", Metadata={"mine": "1"})
        assert ObjectInfo() == await storage.download(transfer("other"), tmp_path / "target")
        client.put_object(Bucket=bucket, Key="bad", Body=b"x", Metadata=metadata)
        with pytest.raises(ValueError, match=r"."):
            await storage.download(transfer("bad"), tmp_path / "target")
    client.close()


async def test_a_long_key_is_in_the_metadata_of_its_object(
    server: str, bucket: str, tmp_path: Path
) -> None:
    """Its name has only a hash. A key of more than some 2,000 bytes is not in the metadata."""
    (tmp_path / "source").write_bytes(b"x")
    client: Any = boto3.client("s3", endpoint_url=server)
    async with open_s3(bucket, endpoint_url=server) as storage:
        for key, expected in (
            ("é/" + "x" * 1_500, {"forebay-key": "%C3%A9%2F" + "x" * 1_500}),
            ("x" * 2_100, {}),
            ("x" * 900, {}),
        ):
            await storage.upload(transfer(key), tmp_path / "source", ObjectInfo())
            head = client.head_object(Bucket=bucket, Key=object_name(key))
            assert expected == head["Metadata"]
    client.close()


async def test_a_cache_fills_another_through_the_storage(
    server: str, bucket: str, tmp_path: Path
) -> None:
    """One cache uploads a hundred artifacts, and another one downloads them, fifty at once."""
    keys = [f"acme/app/{i}" for i in range(100)]
    async with (
        open_s3(bucket, endpoint_url=server) as storage,
        opened(tmp_path / "one", storage=storage) as one,
        opened(tmp_path / "two", storage=storage) as two,
    ):
        assert one.transfer_worker is not None
        assert two.transfer_worker is not None
        for key in keys:
            async with one.files.writing(key) as path:
                path.write_text(key)
            await one.transfers.enqueue_upload("acme", "app", "cas", key)
            await two.transfers.enqueue_download("acme", "app", "cas", key)
        await two.transfers.enqueue_download("acme", "app", "cas", "missing")
        await one.transfer_worker.run_once()
        assert [] == await one.transfers.pending(TransferType.UPLOAD, 1)
        await two.transfer_worker.run_once()
        assert TransferStatistics(runs=1, done=100, missing=1) == two.transfer_worker.statistics()
        assert keys == [two.files.path(key).read_text() for key in keys]
        assert set(keys) == await two.artifacts.existing_keys([*keys, "missing"])


async def test_the_objects_of_a_project_are_deleted(
    server: str, bucket: str, tmp_path: Path
) -> None:
    """Whatever their keys, and as many as there are; those of other projects stay."""
    (tmp_path / "source").write_bytes(b"x")
    odd = [*ODD_TEXTS, "a//b", "a/", "..", "y" * 1_500]
    ours = [f"ac%me/a:p/{text}" for text in odd]
    others = ["ac%me/a:p2/x", "ac%me/a:", "ac%me2/a:p/x", "other/" + "y" * 1_500, "z" * 3_000]
    async with open_s3(bucket, endpoint_url=server) as storage:
        await storage.delete_project("ac%me", "a:p")
        for key in [*ours, *others]:
            await storage.upload(transfer(key), tmp_path / "source", ObjectInfo())
        await storage.delete_project("ac%me", "a:p")
        left = [key for key in [*ours, *others] if await storage.exists(transfer(key))]
    # The metadata of an object has no space for the longest keys.
    assert [*(key for key in ours if len(key) > 4_000), *others] == left
    async with open_s3("no-such-bucket", endpoint_url=server) as storage:
        with pytest.raises(UnavailableError, match="NoSuchBucket"):
            await storage.delete_project("acme", "app")


@pytest.mark.seaweedfs  # it takes some seconds
async def test_a_large_project_is_deleted_in_several_requests(server: str, bucket: str) -> None:
    """A request lists and deletes 1,000 objects."""
    client: Any = boto3.client("s3", endpoint_url=server)

    def put(number: int) -> None:
        client.put_object(Bucket=bucket, Key=f"acme/app/{number}", Body=b"")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(put, range(1_003)))
    async with open_s3(bucket, endpoint_url=server) as storage:
        await storage.delete_project("acme", "app")
    assert 0 == client.list_objects_v2(Bucket=bucket)["KeyCount"]
    client.close()


async def test_a_cache_deletes_a_project_from_the_storage(
    server: str, bucket: str, tmp_path: Path
) -> None:
    """Also what only another cache knows of. Neither cache finds it any more."""
    names = [ArtifactKey("acme", project, "cas", "x") for project in ("app", "other")]
    async with (
        open_s3(bucket, endpoint_url=server) as storage,
        opened(tmp_path / "one", storage=storage) as one,
        opened(tmp_path / "two", storage=storage) as two,
    ):
        for name in names:
            await one.store_artifact(name, b"content")
        await worker(one).run_once()
        await two.delete_project("acme", "app")
        await worker(two).run_once()
        found = []
        for name in names:
            async with two.reading_artifact(name) as reader:
                found.append(reader is not None)
    assert [False, True] == found


class Answering(ThreadingHTTPServer):
    """A server that sends the same answer to each request, and counts the requests."""

    daemon_threads = True

    def __init__(self, status: int) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.status = status
        self.code = "Scripted"
        self.requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    server: Answering

    def _answer(self) -> None:
        self.server.requests += 1
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        code = self.server.code
        body = f"<Error><Code>{code}</Code><Message>scripted</Message></Error>".encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = _answer  # noqa: N815  # http.server's names

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def answering(request: pytest.FixtureRequest) -> Generator[Answering, None, None]:
    with Answering(request.param) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join(TIME)


@pytest.mark.parametrize(
    ("answering", "expected"),
    [
        *((status, RateLimitedError) for status in (429, 503)),
        *((status, UnavailableError) for status in (401, 403, 500, 502, 504)),
        *((status, ClientError) for status in (400, 404, 409, 499)),
    ],
    indirect=["answering"],
)
async def test_a_status_decides_what_the_worker_does(
    answering: Answering, tmp_path: Path, expected: type[Exception]
) -> None:
    """It backs off, or waits until the server works again, or counts a failed attempt.

    No request is repeated here: the worker does that.
    """
    (tmp_path / "source").write_bytes(b"x")
    async with open_s3("bucket", endpoint_url=answering.url) as storage:
        with pytest.raises(expected):
            await storage.upload(transfer("k"), tmp_path / "source", ObjectInfo())
        with pytest.raises(expected):
            await storage.download(transfer("k"), tmp_path / "target")
    assert 2 == answering.requests


@pytest.mark.parametrize(
    ("answering", "code", "expected"),
    [
        (400, "ExpiredToken", UnavailableError),
        (400, "InvalidToken", UnavailableError),
        (400, "RequestTimeout", UnavailableError),
        (400, "AuthorizationHeaderMalformed", UnavailableError),
        (409, "OperationAborted", UnavailableError),
        (407, "Scripted", UnavailableError),
        (408, "Scripted", UnavailableError),
        (400, "ThrottlingException", RateLimitedError),
        (400, "SlowDown", RateLimitedError),
        (500, "SlowDown", RateLimitedError),
        (400, "KeyTooLongError", ClientError),
    ],
    indirect=["answering"],
)
async def test_the_code_of_the_error_counts(
    answering: Answering, code: str, expected: type[Exception], tmp_path: Path
) -> None:
    """Some codes mean that no transfer can succeed, even with a status of 400."""
    answering.code = code
    (tmp_path / "source").write_bytes(b"x")
    async with open_s3("bucket", endpoint_url=answering.url) as storage:
        with pytest.raises(expected):
            await storage.upload(transfer("k"), tmp_path / "source", ObjectInfo())
        with pytest.raises(expected):
            await storage.download(transfer("k"), tmp_path / "target")


async def test_a_bucket_with_an_invalid_name_is_unavailable(server: str, tmp_path: Path) -> None:
    """No request for any key succeeds until an operator corrects the name."""
    async with open_s3("not a bucket", endpoint_url=server) as storage:
        with pytest.raises(UnavailableError, match="bucket name"):
            await storage.download(transfer("k"), tmp_path / "target")


@pytest.mark.parametrize("answering", [503], indirect=True)
async def test_a_rate_limited_transfer_stays_until_it_is_done(
    answering: Answering, server: str, bucket: str, tmp_path: Path
) -> None:
    """It stays queued while the server limits requests, and a later run does it."""
    async with (
        open_s3(bucket, endpoint_url=answering.url) as limited,
        opened(tmp_path, storage=limited) as cache,
    ):
        assert cache.transfer_worker is not None
        async with cache.files.writing("k") as path:
            path.write_bytes(b"x")
        await cache.transfers.enqueue_upload("acme", "app", "cas", "k")
        assert await cache.transfer_worker.run_once()
    async with (
        open_s3(bucket, endpoint_url=server) as storage,
        opened(tmp_path, storage=storage) as cache,
    ):
        assert cache.transfer_worker is not None
        assert not await cache.transfer_worker.run_once()
        assert 1 == cache.transfer_worker.statistics().done
        await storage.download(transfer("k"), tmp_path / "target")
    assert b"x" == (tmp_path / "target").read_bytes()


async def test_a_server_that_refuses_connections_is_unavailable(tmp_path: Path) -> None:
    """The client does not retry."""
    (tmp_path / "source").write_bytes(b"x")
    async with open_s3("bucket", endpoint_url="http://127.0.0.1:1") as storage:
        with pytest.raises(UnavailableError):
            await storage.download(transfer("k"), tmp_path / "target")
        with pytest.raises(UnavailableError):
            await storage.upload(transfer("k"), tmp_path / "source", ObjectInfo())


@pytest.fixture
def silent() -> Generator[str, None, None]:
    """The URL of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


async def test_a_server_that_does_not_answer_in_time_is_unavailable(
    silent: str, tmp_path: Path
) -> None:
    """The timeout ends the call with UnavailableError."""
    async with open_s3("bucket", endpoint_url=silent, read_timeout=0.2) as storage:
        with pytest.raises(UnavailableError):
            await storage.download(transfer("k"), tmp_path / "target")


async def test_without_credentials_the_storage_is_unavailable(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No request can be signed until an operator sets credentials."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    async with open_s3("bucket", endpoint_url=server) as storage:
        with pytest.raises(UnavailableError, match="credentials"):
            await storage.download(transfer("k"), tmp_path / "target")


class Dripping(BaseHTTPRequestHandler):
    """Sends or receives a body so slowly that no timeout of a silence expires."""

    stopping: threading.Event

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        while not self.stopping.wait(0.02):
            self.wfile.write(b"x")

    def do_PUT(self) -> None:
        while not self.stopping.wait(0.02):
            self.rfile.read(1024)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def dripping() -> Generator[str, None, None]:
    Dripping.stopping = threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Dripping) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        Dripping.stopping.set()
        server.shutdown()
        thread.join(TIME)


@pytest.mark.parametrize("transfer_type", [TransferType.UPLOAD, TransferType.DOWNLOAD])
async def test_a_slow_server_does_not_delay_a_transfer_past_its_timeout(
    dripping: str, tmp_path: Path, transfer_type: TransferType
) -> None:
    """The attempt fails at its timeout, even if bytes arrive all the time."""
    async with (
        open_s3("bucket", endpoint_url=dripping) as storage,
        opened(tmp_path, storage=storage, transfer_timeout=0.5) as cache,
    ):
        assert cache.transfer_worker is not None
        if transfer_type is TransferType.UPLOAD:
            async with cache.files.writing("k") as path:
                path.write_bytes(bytes(7_000_000))
            await cache.transfers.enqueue_upload("acme", "app", "cas", "k")
        else:
            await cache.transfers.enqueue_download("acme", "app", "cas", "k")
        with trio.fail_after(20):
            await cache.transfer_worker.run_once()
        assert TransferStatistics(runs=1, failed=1) == cache.transfer_worker.statistics()
        [failed] = await cache.transfers.pending(transfer_type, 1)
        assert 1 == failed.attempts


@pytest.mark.parametrize(
    ("argument", "value", "expected"),
    [
        ("concurrency", 0, ValueError),
        ("concurrency", 2.0, TypeError),
        ("concurrency", "50", TypeError),
        ("connect_timeout", "5", TypeError),
        ("connect_timeout", 0, ValueError),
        ("read_timeout", float("nan"), ValueError),
    ],
)
async def test_invalid_arguments_are_refused(
    argument: str, value: Any, expected: type[Exception]
) -> None:
    """The error has the name of the argument. It is raised at the opening."""
    with pytest.raises(expected, match=f"^{argument} must be"):
        async with open_s3("bucket", **{argument: value}):
            raise AssertionError
