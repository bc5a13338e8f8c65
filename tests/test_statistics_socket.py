"""`serve_statistics`: its answers, its permissions, and the removal of its socket."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import Mock

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from forebay import Buffers, Table, open_buffers, serve_statistics
from forebay.testing import MemoryStore


class Pair(NamedTuple):
    k: int
    v: int = 0


PAIRS = Table(Pair, name="pairs", key="k")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A relative path: the system limits the length of a socket's name."""
    monkeypatch.chdir(tmp_path)
    return "statistics.sock"


@asynccontextmanager
async def opened() -> AsyncIterator[Buffers]:
    async with open_buffers(MemoryStore(), PAIRS) as buffers:
        yield buffers


async def ask(stream: trio.SocketStream, request: bytes = b"\n") -> dict[str, Any]:
    await stream.send_all(request)
    answer = b""
    with trio.fail_after(30):
        while not answer.endswith(b"\n"):
            answer += await stream.receive_some()
    decoded: dict[str, Any] = json.loads(answer)
    return decoded


async def test_each_line_is_answered_with_the_statistics(path: str) -> None:
    """The answer has the statistics at the time of the request, for any number of clients."""
    async with (
        opened() as buffers,
        serve_statistics(path, buffers),
        await trio.open_unix_socket(path) as one,
        await trio.open_unix_socket(path) as two,
    ):
        assert 0 == (await ask(one))["buffers"]["pairs"]["accepted"]
        await buffers[PAIRS].enqueue_many([Pair(1), Pair(1, 2)])
        await buffers[PAIRS].flush()
        before = trio.current_time()
        answer = await ask(two, b"anything\n")
        assert {"pairs": dataclasses.asdict(buffers[PAIRS].statistics())} == answer["buffers"]
        assert before <= answer["time"] <= trio.current_time()
        assert 2 == (await ask(one))["buffers"]["pairs"]["accepted"]


async def test_only_the_owner_can_use_the_socket(path: str) -> None:
    """Other users can neither read nor write."""
    async with opened() as buffers, serve_statistics(path, buffers):
        mode = Path(path).stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert 0o600 == stat.S_IMODE(mode)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
async def test_no_network_port_is_opened(path: str) -> None:
    """No socket of the process listens on TCP."""
    async with opened() as buffers, serve_statistics(path, buffers):
        own = {str(f.readlink()) for f in Path("/proc/self/fd").iterdir() if f.is_symlink()}
        listening = {
            f"socket:[{fields[9]}]"
            for table in ("tcp", "tcp6")
            for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]
            if (fields := line.split())[3] == "0A"
        }
        assert set() == own & listening


async def test_the_end_of_the_block_removes_the_socket(path: str) -> None:
    """The clients receive the farewell, and their connections end."""
    async with opened() as buffers:
        async with serve_statistics(path, buffers):
            client = await trio.open_unix_socket(path)
            await ask(client)
        assert not Path(path).exists()
        assert b"null\n" == await client.receive_some()
        assert b"" == await client.receive_some()
        await client.aclose()


class BodyError(Exception):
    pass


async def test_an_exception_of_the_body_is_raised_without_a_group(path: str) -> None:
    """The socket is removed."""
    async with opened() as buffers:
        with pytest.raises(BodyError):
            async with serve_statistics(path, buffers):
                raise BodyError
        assert not Path(path).exists()


async def test_a_cancelled_block_removes_its_socket(path: str) -> None:
    """The clients receive the farewell then, too."""
    async with opened() as buffers:
        with trio.CancelScope() as scope:
            async with serve_statistics(path, buffers):
                client = await trio.open_unix_socket(path)
                await ask(client)
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert not Path(path).exists()
        assert b"null\n" == await client.receive_some()
        await client.aclose()


def with_long_answer(buffers: Buffers) -> Buffers:
    """Return a stand-in for buffers, whose statistics do not fit into a socket's send buffer."""
    [statistics] = buffers.statistics().values()
    return Mock(spec=Buffers, statistics=lambda: {"x" * 4_000_000: statistics})


async def test_the_farewell_follows_a_complete_answer(path: str) -> None:
    """If the block ends while an answer is sent, the client receives the rest of it first."""
    received = bytearray()

    async def read(client: trio.SocketStream) -> None:
        await ending.wait()
        async for chunk in client:
            received.extend(chunk)

    ending = trio.Event()
    async with (
        opened() as buffers,
        trio.open_nursery() as nursery,
        serve_statistics(path, with_long_answer(buffers)),
    ):
        client = await trio.open_unix_socket(path)
        nursery.start_soon(read, client)
        await client.send_all(b"\n")
        await wait_all_tasks_blocked()
        ending.set()
    await client.aclose()
    answer, farewell, rest = bytes(received).split(b"\n")
    assert (b"null", b"") == (farewell, rest)
    assert ["buffers", "time"] == sorted(json.loads(answer))


async def test_a_client_that_does_not_read_delays_the_end_by_half_a_second(
    path: str, autojump_clock: MockClock
) -> None:
    """The farewell has a deadline."""
    async with opened() as buffers:
        async with serve_statistics(path, with_long_answer(buffers)):
            client = await trio.open_unix_socket(path)
            await client.send_all(b"\n")
            await wait_all_tasks_blocked()
            ended = trio.current_time()
        assert pytest.approx(0.5) == trio.current_time() - ended
        await client.aclose()


async def serve(buffers: Buffers, path: str, task_status: trio.TaskStatus[None]) -> None:
    async with serve_statistics(path, buffers):
        task_status.started()
        await trio.sleep_forever()


async def test_the_drain_can_be_shown(path: str) -> None:
    """A task of a nursery around the buffers serves until they are closed."""
    store = MemoryStore()
    store.stop()

    async def watch(client: trio.SocketStream) -> None:
        await wait_all_tasks_blocked()
        with pytest.raises(trio.ClosedResourceError):
            buffers[PAIRS].enqueue_nowait(Pair(2))
        assert 1 == (await ask(client))["buffers"]["pairs"]["pending"]
        store.resume()

    async with trio.open_nursery() as nursery:
        async with open_buffers(store, PAIRS) as buffers:
            await nursery.start(partial(serve, buffers, path))
            client = await trio.open_unix_socket(path)
            await buffers[PAIRS].enqueue(Pair(1))
            nursery.start_soon(watch, client)
        assert 1 == (await ask(client))["buffers"]["pairs"]["committed"]
        nursery.cancel_scope.cancel()
    assert b"null\n" == await client.receive_some()
    await client.aclose()


async def test_a_relative_path_is_relative_to_the_folder_at_the_call(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that changes its working directory later still removes its socket."""
    (tmp_path / "elsewhere").mkdir()
    async with opened() as buffers, serve_statistics(path, buffers):
        monkeypatch.chdir(tmp_path / "elsewhere")
    assert not (tmp_path / path).exists()


async def test_a_stale_socket_is_replaced(path: str) -> None:
    """A program that died left it behind."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    async with (
        opened() as buffers,
        serve_statistics(path, buffers),
        await trio.open_unix_socket(path) as client,
    ):
        assert "pairs" in (await ask(client))["buffers"]


async def test_a_socket_that_is_served_is_not_replaced(path: str) -> None:
    """The second program gets an error, and the first one goes on."""
    async with opened() as buffers, serve_statistics(path, buffers):
        with pytest.raises(FileExistsError, match="is served by another program"):
            async with serve_statistics(path, buffers):
                pass
        async with await trio.open_unix_socket(path) as client:
            assert "pairs" in (await ask(client))["buffers"]


async def test_a_file_is_not_replaced(path: str) -> None:
    """Only a socket is removed."""
    Path(path).write_text("precious")
    async with opened() as buffers:
        with pytest.raises(FileExistsError, match="exists and is not a socket"):
            async with serve_statistics(path, buffers):
                pass
    assert "precious" == Path(path).read_text()


async def test_a_link_is_not_replaced(path: str) -> None:
    """It could lead to the socket of another program."""
    Path(path).symlink_to("elsewhere.sock")
    async with opened() as buffers:
        with pytest.raises(FileExistsError, match="exists and is a symbolic link"):
            async with serve_statistics(path, buffers):
                pass
    assert Path(path).is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
async def test_a_socket_of_another_user_is_not_replaced(path: str) -> None:
    """Nobody serves it, but it is not a file of this user."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
    os.chown(path, 65_534, -1)
    async with opened() as buffers:
        with pytest.raises(FileExistsError, match="exists and belongs to user 65534"):
            async with serve_statistics(path, buffers):
                pass
    assert Path(path).is_socket()


@pytest.mark.parametrize(
    ("place", "kind", "reason"),
    [
        ("missing/a.sock", FileNotFoundError, "No such file or directory: 'missing/a.sock'"),
        ("x" * 150, OSError, "AF_UNIX path too long: pass a shorter path"),
        ("", FileNotFoundError, "No such file or directory: ''"),
    ],
)
async def test_an_error_of_the_system_has_the_path(
    place: str, kind: type[OSError], reason: str, path: str
) -> None:
    """It has the reason as well."""
    Path("dangling").symlink_to("nowhere")
    async with opened() as buffers:
        with pytest.raises(kind, match=reason) as caught:
            async with serve_statistics(place, buffers):
                pass
    assert place == caught.value.filename
    assert ["dangling"] == [file.name for file in Path().iterdir()]


async def test_a_socket_of_another_type_is_not_replaced(path: str) -> None:
    """A datagram socket does not show whether a program serves it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(path)
        async with opened() as buffers:
            with pytest.raises(FileExistsError, match=f"{path!r} exists and does not accept"):
                async with serve_statistics(path, buffers):
                    pass
    assert Path(path).is_socket()


async def test_a_file_that_replaced_the_socket_is_not_removed(path: str) -> None:
    """The end of the block removes only its own socket."""
    async with opened() as buffers, serve_statistics(path, buffers):
        Path(path).unlink()
        Path(path).write_text("precious")
    assert "precious" == Path(path).read_text()


async def test_a_client_that_sends_no_line_is_disconnected(path: str) -> None:
    """The server reads a limited number of bytes."""
    async with (
        opened() as buffers,
        serve_statistics(path, buffers),
        await trio.open_unix_socket(path) as client,
    ):
        with trio.fail_after(30), pytest.raises(trio.BrokenResourceError):
            while True:
                await client.send_all(b"x" * 1000)


async def test_a_client_may_disconnect_before_the_answer(path: str) -> None:
    """The server goes on, and answers other clients."""
    async with opened() as buffers, serve_statistics(path, buffers):
        for _ in range(50):
            rude = socket.socket(socket.AF_UNIX)
            rude.connect(path)
            rude.send(b"\n" * 100)
            rude.close()
            await trio.lowlevel.checkpoint()
        async with await trio.open_unix_socket(path) as client:
            assert "pairs" in (await ask(client))["buffers"]
