"""`serve_statistics`: who may ask, what is answered, and what is left behind."""

from __future__ import annotations

import dataclasses
import json
import socket
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from forebay import Buffers, BufferStatistics, Table, open_buffers, serve_statistics
from forebay.testing import MemoryStore


class Pair(NamedTuple):
    k: int
    v: int = 0


PAIRS = Table(Pair, name="pairs", key="k")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A short name, whatever the length of the folder's."""
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
    told: dict[str, Any] = json.loads(answer)
    return told


async def test_each_line_is_answered_with_the_statistics(path: str) -> None:
    """As many times as it is asked, by as many clients as ask, as things are then."""
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
        told = await ask(two, b"anything\n")
        assert {"pairs": dataclasses.asdict(buffers[PAIRS].statistics())} == told["buffers"]
        assert before <= told["time"] <= trio.current_time()
        assert 2 == (await ask(one))["buffers"]["pairs"]["accepted"]


async def test_the_socket_is_its_owners(path: str) -> None:
    """Nobody else may read it or write to it."""
    async with opened() as buffers, serve_statistics(path, buffers):
        mode = Path(path).stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert 0o600 == stat.S_IMODE(mode)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
async def test_no_network_port_is_opened(path: str) -> None:
    """None of the process's sockets listens on TCP."""
    async with opened() as buffers, serve_statistics(path, buffers):
        mine = {str(f.readlink()) for f in Path("/proc/self/fd").iterdir() if f.is_symlink()}
        listening = {
            f"socket:[{fields[9]}]"
            for table in ("tcp", "tcp6")
            for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]
            if (fields := line.split())[3] == "0A"
        }
        assert set() == mine & listening


async def test_the_socket_goes_with_the_block(path: str) -> None:
    """Its name is free again, and its connections end."""
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


async def test_what_the_body_raises_leaves_the_block_as_it_is(path: str) -> None:
    """It is in no group, and the socket is gone."""
    async with opened() as buffers:
        with pytest.raises(BodyError):
            async with serve_statistics(path, buffers):
                raise BodyError
        assert not Path(path).exists()


async def test_a_cancelled_block_removes_its_socket(path: str) -> None:
    """However it is left; and says farewell."""
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


class Long(Buffers):
    """Buffers that tell more than the system keeps for who does not read."""

    def statistics(self) -> dict[str, BufferStatistics]:
        [statistics] = super().statistics().values()
        return {"x" * 4_000_000: statistics}


async def test_the_farewell_follows_a_whole_answer(path: str) -> None:
    """A client that is in the middle of one when the block is left gets the rest first."""
    told = bytearray()

    async def read(client: trio.SocketStream) -> None:
        await leaving.wait()
        async for chunk in client:
            told.extend(chunk)

    leaving = trio.Event()
    async with (
        opened() as buffers,
        trio.open_nursery() as nursery,
        serve_statistics(path, Long(buffers._workers)),
    ):
        client = await trio.open_unix_socket(path)
        nursery.start_soon(read, client)
        await client.send_all(b"\n")
        await wait_all_tasks_blocked()
        leaving.set()
    await client.aclose()
    answer, farewell, nothing = bytes(told).split(b"\n")
    assert (b"null", b"") == (farewell, nothing)
    assert ["buffers", "time"] == sorted(json.loads(answer))


async def test_a_client_that_does_not_read_holds_nobody_up(
    path: str, autojump_clock: MockClock
) -> None:
    """The farewell has a deadline."""
    async with opened() as buffers:
        async with serve_statistics(path, Long(buffers._workers)):
            client = await trio.open_unix_socket(path)
            await client.send_all(b"\n")
            await wait_all_tasks_blocked()
            left = trio.current_time()
        assert pytest.approx(0.5) == trio.current_time() - left
        await client.aclose()


async def serve(buffers: Buffers, path: str, task_status: trio.TaskStatus[None]) -> None:
    async with serve_statistics(path, buffers):
        task_status.started()
        await trio.sleep_forever()


async def test_a_drain_can_be_watched(path: str) -> None:
    """Served from a nursery outside of the buffers, the socket goes when they have ended."""
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


async def test_a_program_that_changes_its_folder_removes_its_socket(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path is of the folder at the time of the call."""
    (tmp_path / "elsewhere").mkdir()
    async with opened() as buffers, serve_statistics(path, buffers):
        monkeypatch.chdir(tmp_path / "elsewhere")
    assert not (tmp_path / path).exists()


async def test_a_socket_of_a_dead_program_is_replaced(path: str) -> None:
    """What nobody serves is in nobody's use."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    async with (
        opened() as buffers,
        serve_statistics(path, buffers),
        await trio.open_unix_socket(path) as client,
    ):
        assert "pairs" in (await ask(client))["buffers"]


async def test_a_socket_that_is_served_is_left_alone(path: str) -> None:
    """A second program is told so, and the first one goes on."""
    async with opened() as buffers, serve_statistics(path, buffers):
        with pytest.raises(FileExistsError, match="is served by another program"):
            async with serve_statistics(path, buffers):
                pass
        async with await trio.open_unix_socket(path) as client:
            assert "pairs" in (await ask(client))["buffers"]


async def test_a_file_is_left_alone(path: str) -> None:
    """Whatever it is, it is not ours to remove."""
    Path(path).write_text("precious")
    async with opened() as buffers:
        with pytest.raises(FileExistsError, match="is no socket"):
            async with serve_statistics(path, buffers):
                pass
    assert "precious" == Path(path).read_text()


@pytest.mark.parametrize(
    ("place", "kind", "why"),
    [
        ("missing/a.sock", FileNotFoundError, "No such file or directory: 'missing/a.sock'"),
        ("x" * 150, OSError, "AF_UNIX path too long: choose a shorter one"),
        ("dangling", OSError, "Address already in use: 'dangling'"),
    ],
)
async def test_a_place_where_no_socket_can_be_is_named(
    place: str, kind: type[OSError], why: str, path: str
) -> None:
    """The error has the path, and what is wrong with it."""
    Path("dangling").symlink_to("nowhere")
    async with opened() as buffers:
        with pytest.raises(kind, match=why) as caught:
            async with serve_statistics(place, buffers):
                pass
    assert place == caught.value.filename
    assert ["dangling"] == [file.name for file in Path().iterdir()]


async def test_a_socket_of_another_kind_is_left_alone(path: str) -> None:
    """One that cannot be asked whether somebody serves it is not ours to remove."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(path)
        async with opened() as buffers:
            with pytest.raises(FileExistsError, match=f"{path!r} is there and cannot be used"):
                async with serve_statistics(path, buffers):
                    pass
    assert Path(path).is_socket()


async def test_what_took_its_place_is_left_alone(path: str) -> None:
    """At the end it removes its own socket, not what somebody put there since."""
    async with opened() as buffers, serve_statistics(path, buffers):
        Path(path).unlink()
        Path(path).write_text("precious")
    assert "precious" == Path(path).read_text()


async def test_a_client_that_sends_no_line_is_dropped(path: str) -> None:
    """What it sends is not kept without bound."""
    async with (
        opened() as buffers,
        serve_statistics(path, buffers),
        await trio.open_unix_socket(path) as client,
    ):
        with trio.fail_after(30), pytest.raises(trio.BrokenResourceError):
            while True:
                await client.send_all(b"x" * 1000)


async def test_a_client_that_goes_harms_nobody(path: str) -> None:
    """One that asks and does not stay for the answer, nor closes in order."""
    async with opened() as buffers, serve_statistics(path, buffers):
        for _ in range(50):
            rude = socket.socket(socket.AF_UNIX)
            rude.connect(path)
            rude.send(b"\n" * 100)
            rude.close()
            await trio.lowlevel.checkpoint()
        async with await trio.open_unix_socket(path) as client:
            assert "pairs" in (await ask(client))["buffers"]
