"""Clients that are slow, many, or cut off: the others are served, and nothing half is stored."""

from __future__ import annotations

import hashlib
import os
import random
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from tests.examples.build_cache.site import Answer, Client, Server, build_cache, request
from tests.faults.harness import mounted
from tests.waiting import TIMEOUT, wait_until

LIMITS = {"stall-timeout": 1, "idle-timeout": 600, "min-rate": 1_000_000}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server with little patience."""
    options = [f"--{name}={value}" for name, value in LIMITS.items()]
    with build_cache(tmp_path_factory.mktemp("cache"), *options) as server:
        yield server


def is_missing(server: Server, target: str) -> bool:
    """Return whether an artifact is not there, and that the server works."""
    with Client(server.port) as client:
        return client.ask("GET", target).status == 404


def test_a_truncated_upload_is_not_stored(server: Server) -> None:
    """The client disappears in the middle of a body."""
    with Client(server.port) as client:
        client.send(request("PUT", "/acme/app/truncated", content_length="1000") + b"x" * 200)
    assert is_missing(server, "/acme/app/truncated")


def test_a_truncated_upload_leaves_what_was_there(server: Server) -> None:
    """The older artifact of the key is served on."""
    with Client(server.port) as client:
        assert 200 == client.ask("PUT", "/acme/app/kept", b"older").status
        client.send(request("PUT", "/acme/app/kept", content_length="1000") + b"newer")
    with Client(server.port) as client:
        assert b"older" == client.ask("GET", "/acme/app/kept").body


async def test_a_slow_head_is_cut_off(tmp_path: Path) -> None:
    """The head of a request must arrive within a time, even if a byte arrives now and then."""
    with build_cache(tmp_path / "cache", "--idle-timeout=1") as server:
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        async with stream:
            await stream.send_all(b"GET /up HTTP/1.1\r\nx: ")
            with pytest.raises(trio.BrokenResourceError), trio.fail_after(30):
                while True:
                    await stream.send_all(b"x")
                    await trio.sleep(0.2)


def test_a_slow_body_is_cut_off(server: Server) -> None:
    """A body that does not progress ends as 408."""
    with Client(server.port) as client:
        client.send(request("PUT", "/acme/app/slow", content_length="1000") + b"x")
        assert 408 == client.answer().status
        assert client.is_closed()
    assert is_missing(server, "/acme/app/slow")


@pytest.mark.parametrize("start", [0, 60_000_000])
async def test_a_body_below_the_lowest_rate_is_cut_off(server: Server, start: int) -> None:
    """Many small steps are no progress, also after a fast start."""
    stream = await trio.open_tcp_stream("127.0.0.1", server.port)
    async with stream:
        await stream.send_all(request("PUT", "/acme/app/drip", content_length="60001000"))
        await stream.send_all(bytes(start))
        with pytest.raises(trio.BrokenResourceError), trio.fail_after(30):
            while True:
                await stream.send_all(b"x")
                await trio.sleep(0.2)
    assert is_missing(server, "/acme/app/drip")


def test_a_client_that_does_not_read_is_cut_off(server: Server) -> None:
    """It gets a part of the artifact only."""
    data = bytes(10_000_000)
    with Client(server.port, receive_buffer=4096) as client:
        assert 200 == client.ask("PUT", "/acme/app/unread", data).status
        client.send(request("GET", "/acme/app/unread"))
        with Client(server.port) as other:

            def is_cut_off() -> bool:
                assert 200 == other.ask("GET", "/up").status
                return 'GET /acme/app/unread" 200' in server.log

            wait_until(is_cut_off, "the response is cut off", lambda: server.log)
        with pytest.raises((AssertionError, ConnectionError)):
            client.answer()


def test_a_file_that_becomes_shorter_ends_the_connection(tmp_path: Path) -> None:
    """The client sees that bytes are missing: no other response takes their place."""
    data = bytes(10_000_000)
    with (
        build_cache(tmp_path / "cache") as server,
        Client(server.port, receive_buffer=4096) as client,
    ):
        assert 200 == client.ask("PUT", "/acme/app/shorter", data).status
        client.send(request("GET", "/acme/app/shorter") + request("GET", "/up"))
        client.wait_for_response()
        [file] = (tmp_path / "cache" / "artifacts").glob("[0-9a-f][0-9a-f]/*")
        os.truncate(file, 1_000_000)
        received = client.receive_all()
    assert received < len(data)


async def test_500_connections_do_not_stop_others(server: Server) -> None:
    """Idle ones, and those in the middle of a head or a body."""
    parts = (b"", b"GET /up", request("PUT", "/acme/app/many", content_length="9") + b"1")
    streams = []
    for number in range(500):
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        await stream.send_all(parts[number % 3])
        streams.append(stream)
    with Client(server.port) as client:
        assert 200 == client.ask("PUT", "/acme/app/one-of-many", b"x").status
        assert b"x" == client.ask("GET", "/acme/app/one-of-many").body
    for stream in streams:
        await trio.aclose_forcefully(stream)
    assert is_missing(server, "/acme/app/many")


async def test_beyond_the_limit_the_longest_waiting_connection_is_closed(tmp_path: Path) -> None:
    """New clients are served although others hold all connections open."""
    with build_cache(tmp_path / "cache", "--max-connections=10") as server:
        idle = [Client(server.port) for _ in range(10)]
        with Client(server.port) as client:
            assert 200 == client.ask("GET", "/up").status
        assert idle[0].is_closed()
        assert 200 == idle[9].ask("GET", "/up").status
        for each in idle:
            each.__exit__()


@pytest.mark.root
def test_a_full_disk_refuses_uploads_and_serves_what_is_there(tmp_path: Path) -> None:
    """An upload is answered by 507 and stores nothing. Once there is space, it is stored."""
    data = bytes(2_000_000)
    with (
        mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=8m", "tmpfs") as disk,
        build_cache(disk / "cache", "--budget=1000000000") as server,
        Client(server.port) as client,
    ):
        assert 200 == client.ask("PUT", "/acme/app/kept", b"kept").status
        filler = disk / "filler"
        filler.touch()
        with suppress(OSError), filler.open("r+b", buffering=0) as file:
            while file.write(bytes(65_536)):
                pass
        assert 507 == client.ask("PUT", "/acme/app/large", data).status
        with Client(server.port) as other:
            assert b"kept" == other.ask("GET", "/acme/app/kept").body
            assert 404 == other.ask("GET", "/acme/app/large").status
            filler.unlink()
            assert 200 == other.ask("PUT", "/acme/app/large", data).status
            assert data == other.ask("GET", "/acme/app/large").body


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory in /proc")
def test_memory_does_not_grow_with_the_size_of_an_artifact(tmp_path: Path) -> None:
    """An upload and a download of 100 MB pass in pieces."""
    data = bytes(100_000_000)
    with build_cache(tmp_path / "cache") as server, Client(server.port) as client:
        status = Path(f"/proc/{server.program.process.pid}/status")
        before = memory(status.read_text())
        assert 200 == client.ask("PUT", "/acme/app/large", data).status
        assert data == client.ask("GET", "/acme/app/large").body
        assert memory(status.read_text()) - before < 10_000


def memory(status: str) -> int:
    """Return the highest memory of a process so far, in KiB."""
    return int(status.partition("VmHWM:")[2].split()[0])


async def put(port: int, target: str, body: bytes) -> Answer | None:
    """Store an artifact; return None if the server goes away."""
    try:
        with trio.fail_after(TIMEOUT):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(request("PUT", target, body))
                data = await stream.receive_some(4096)
                return Answer(int(data.split()[1]), {}, b"") if data else None
    except (OSError, trio.BrokenResourceError):
        return None


async def test_two_writers_of_a_key_store_one_of_both(server: Server) -> None:
    """Each read returns all bytes of one upload, while others replace it."""
    bodies = [bytes([number]) * (100_000 + number) for number in range(8)]
    served = set()

    async def write(body: bytes) -> None:
        for _ in range(5):
            answer = await put(server.port, "/acme/app/contended", body)
            assert answer is not None
            assert 200 == answer.status
            with Client(server.port) as client:
                served.add(client.ask("GET", "/acme/app/contended").body)

    async with trio.open_nursery() as nursery:
        for body in bodies:
            nursery.start_soon(write, body)
    assert served <= set(bodies)


async def test_a_killed_server_serves_whole_uploads_only(tmp_path: Path) -> None:
    """kill -9 during 200 uploads: each key has all bytes of its upload, or nothing."""
    draw = random.Random(1)
    bodies = [draw.randbytes(draw.randrange(200_000)) for _ in range(200)]
    digests = [hashlib.sha256(body).digest() for body in bodies]
    stored = trio.Event()
    done: list[int] = []
    with build_cache(tmp_path / "cache") as server:

        async def upload(number: int) -> None:
            if await put(server.port, f"/acme/app/{number}", bodies[number]) is not None:
                done.append(number)
            if len(done) > 50:
                stored.set()

        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(upload, number)
            with trio.fail_after(TIMEOUT):
                await stored.wait()
            server.program.kill()
    assert 50 < len(done) < 200
    with build_cache(tmp_path / "cache") as server, Client(server.port) as client:
        answers = [client.ask("GET", f"/acme/app/{number}") for number in range(200)]
    served = {n: a.body for n, a in enumerate(answers) if a.status == 200}
    assert [] == [n for n, body in served.items() if hashlib.sha256(body).digest() != digests[n]]
    assert {200, 404} >= {answer.status for answer in answers}
    assert [] == list((tmp_path / "cache" / "artifacts" / "partial").iterdir())
