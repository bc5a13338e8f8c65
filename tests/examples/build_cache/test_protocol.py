"""The server of examples/build_cache speaks HTTP as its clients expect, and refuses the rest."""

from __future__ import annotations

import base64
import hashlib
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.examples.build_cache.site import TOKEN, Client, Server, build_cache, request
from tests.waiting import wait_until

APP = "a token for acme/app"
DATA = bytes(range(256)) * 1024
"""An artifact that is sent in several pieces."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server with a token for all projects, and one for acme/app."""
    folder = tmp_path_factory.mktemp("cache")
    limits = ("--max-body", "1000000", "--token", f"acme/app={APP}")
    with build_cache(folder, *limits) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """Return a connection to the server."""
    with Client(server.port) as client:
        yield client


@pytest.mark.parametrize("data", [b"", b"small", DATA])
def test_an_artifact_is_returned_as_it_was_stored(client: Client, data: bytes) -> None:
    """PUT stores the bytes, GET returns them, HEAD only their size, all on one connection."""
    assert 404 == client.ask("GET", f"/acme/app/{len(data)}").status
    assert 200 == client.ask("PUT", f"/acme/app/{len(data)}", data).status
    answer = client.ask("GET", f"/acme/app/{len(data)}")
    assert (200, data) == (answer.status, answer.body)
    answer = client.ask("HEAD", f"/acme/app/{len(data)}")
    assert (200, str(len(data))) == (answer.status, answer.headers["content-length"])
    assert 204 == client.ask("DELETE", f"/acme/app/{len(data)}").status
    assert 404 == client.ask("HEAD", f"/acme/app/{len(data)}").status


def test_a_later_put_replaces_an_artifact(client: Client) -> None:
    """The last one wins, in size and bytes."""
    for data in (b"first, and longer", b"second"):
        assert 200 == client.ask("PUT", "/acme/app/replaced", data).status
        assert data == client.ask("GET", "/acme/app/replaced").body


def test_a_client_may_ask_before_it_sends_a_body(client: Client) -> None:
    """Expect: 100-continue is answered by 100 when the body is wanted, and else by the error."""
    client.send(request("PUT", "/acme/app/expected", content_length="4", expect="100-continue"))
    assert 100 == client.answer().status
    client.send(b"body")
    assert 200 == client.answer().status
    client.send(request("PUT", "/acme/app/large", content_length="1000001", expect="100-continue"))
    assert 413 == client.answer().status
    assert client.is_closed()


def test_one_of_two_connection_headers_closes_the_connection(client: Client) -> None:
    """The values of headers with the same name are one list."""
    two = b"connection: close\r\nconnection: keep-alive"
    client.send(b"GET /up HTTP/1.1\r\nhost: a\r\n" + two + b"\r\n\r\n")
    assert "close" == client.answer().headers["connection"]
    assert client.is_closed()


def test_pipelined_requests_are_answered_in_order(client: Client) -> None:
    """Requests that are sent at once are answered one after the other."""
    names = [f"/acme/app/pipelined-{number}" for number in range(20)]
    client.send(b"".join(request("PUT", name, name.encode()) for name in names))
    assert [200] * 20 == [client.answer().status for _ in names]
    client.send(b"".join(request("GET", name) for name in names))
    assert [name.encode() for name in names] == [client.answer().body for _ in names]


def test_http_1_0_is_answered_and_closed(client: Client) -> None:
    """An old client gets its response, and the end of the connection."""
    client.send(b"GET /up HTTP/1.0\r\n\r\n")
    answer = client.answer()
    assert (200, "close") == (answer.status, answer.headers["connection"])
    assert client.is_closed()


@pytest.mark.parametrize(
    "target",
    [
        "/acme/app/../other/x",
        "/acme/app/%2e%2e/other/x",
        "/acme/app/a%2fb",
        "/acme/%2e/x",
        "/acme//x",
        "//acme/app/x",
        "/acme/app/%00",
        "/acme/app/%0d%0aset-cookie:x",
        "/acme/app/%ff",
        "/v8/artifacts/x?slug=%ff",
        "/v8/artifacts/x?slug=a/b/c",
        "http://127.0.0.1/acme/app/x",
        "*",
    ],
)
def test_a_path_with_two_meanings_is_refused(client: Client, target: str) -> None:
    """What one server decodes and another does not never reaches a project."""
    assert 400 == client.ask("GET", target).status
    assert 400 == client.ask("PUT", target, b"x").status


def test_a_path_without_a_key_is_unknown(client: Client) -> None:
    """An artifact needs an account, a project and a key."""
    for target in ("/", "/acme", "/acme/app", "/acme/app/"):
        assert 404 == client.ask("GET", target).status


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /up HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /up HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 40_000 + b"\r\n\r\n", 431),
        (request("PUT", "/acme/app/x"), 411),
        (request("PUT", "/acme/app/x", content_length="-1"), 400),
        (request("PUT", "/acme/app/x", content_length="1, 2"), 400),
        (request("PUT", "/acme/app/x", content_length="1000001"), 413),
        (request("PUT", "/acme/app/x", b"0\r\n\r\n", transfer_encoding="chunked"), 400),
        (request("PUT", "/acme/app/x", transfer_encoding="gzip"), 400),
        (request("PUT", "/acme/app/x", transfer_encoding="chunked") + b"1\r\nx\r\n0\r\n\r\n", 411),
        (request("PUT", "/acme/app/x", content_length="+1") + b"x", 400),
        (request("PUT", "/acme/app/x", content_length="1\r\ncontent-length: 2") + b"xx", 400),
        (request("PUT", "/acme/app/x", content_length="9" * 30), 400),
        (request("PUT", "/acme/app/x", b"x", transfer_encoding="identity"), 400),
        (request("PUT", "/acme/app/x", b"x", host=""), 400),
        (request("PUT", "/acme/app/x", b"x", x="1\r\n folded: 2").replace(b"x: 1", b"x : 1"), 400),
        (request("PUT", "/acme/app/x", b"x", x="\0"), 400),
        (request("PUT", "/acme/app/x", b"x").replace(b"1.1", b"7.1"), 400),
        (request("PUT", "/acme/app/x", b"x").replace(b"1.1", b"2.0"), 400),
        (b"GET /up\r\n\r\n" + request("PUT", "/acme/app/x", b"x"), 400),
        (b"GET /up\n\r\n" + request("PUT", "/acme/app/x", b"x"), 400),
        (request("PUT", "/acme/app/\xfc", b"x"), 400),
        (request("CONNECT", "127.0.0.1:80"), 400),
        (b"\r\n" * 20_000, 400),
        (request("PATCHY", "/acme/app/x"), 400),
        (request("PATCH", "/acme/app/x"), 405),
        (request("POST", "/acme/app/x", b"body"), 405),
    ],
)
def test_a_wrong_message_is_refused(client: Client, message: bytes, status: int) -> None:
    """A request that is no HTTP, or whose length is unclear, stores nothing."""
    client.send(message)
    assert status == client.answer().status
    with Client(client.socket.getpeername()[1]) as other:
        assert 404 == other.ask("GET", "/acme/app/x").status


def test_an_upgrade_is_ignored(client: Client) -> None:
    """A client that offers HTTP/2, as Java's HttpClient does, is answered in HTTP/1.1."""
    offer = {
        "connection": "Upgrade, HTTP2-Settings",
        "upgrade": "h2c",
        "http2_settings": "AAEAAEAA",
    }
    target = "/acme/app/upgrade"
    client.send(request("PUT", target, DATA, **offer) + request("GET", target, None, **offer))
    assert 200 == client.answer().status
    assert (200, DATA) == ((answer := client.answer()).status, answer.body)
    assert DATA == client.ask("GET", target).body


def test_a_head_may_arrive_in_any_pieces(client: Client) -> None:
    """Two requests, with a body between them, are sent byte by byte."""
    message = request("PUT", "/acme/app/bytes", b"body") + request("GET", "/acme/app/bytes", x="")
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in message:
        client.send(bytes([byte]))
    assert 200 == client.answer().status
    assert b"body" == client.answer().body


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has TCP_QUICKACK")
def test_a_body_follows_its_head_at_once(client: Client) -> None:
    """The head is acknowledged at once, since the client's system sends the body after that.

    Otherwise each upload takes at least 40 ms, by the timer of delayed acknowledgements.
    """
    durations = []
    for number in range(20):
        started = time.monotonic()
        client.send(request("PUT", f"/acme/app/at-once-{number}", content_length="4"))
        client.send(b"body")
        assert 200 == client.answer().status
        durations.append(time.monotonic() - started)
    assert min(durations[10:]) < 0.035, durations  # the first ones are not delayed in any case


def test_a_body_that_is_longer_than_its_length_is_no_request(client: Client) -> None:
    """The bytes after the body are the next request, and are refused as such."""
    client.send(request("PUT", "/acme/app/longer", b"1234 and more\r\n\r\n", content_length="4"))
    assert [200, 400] == [client.answer().status, client.answer().status]
    assert client.is_closed()
    with Client(client.socket.getpeername()[1]) as other:
        assert b"1234" == other.ask("GET", "/acme/app/longer").body


def basic(password: str) -> str:
    """Return the header of a user with a password."""
    return "Basic " + base64.b64encode(f"user:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (f"Bearer {TOKEN}", 404),
        (basic(TOKEN), 404),
        (TOKEN, 404),
        (f"bearer {APP}", 404),
        ("", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        ("Bearer another token", 401),
        (f"Bearer {TOKEN}x", 401),
        ("Basic !", 401),
        (basic(""), 401),
        ("Bearer \xe9", 401),
    ],
)
def test_a_token_is_asked_for(client: Client, authorization: str, status: int) -> None:
    """Bearer, the password of Basic, and the bare value are accepted; nothing else is."""
    answer = client.ask("GET", "/acme/app/none", authorization=authorization)
    assert status == answer.status
    assert (status == 401) == ("www-authenticate" in answer.headers)


@pytest.mark.parametrize("target", ["/acme/other/x", "/other/app/x", "/acme/app%20/x"])
def test_a_token_for_one_project_opens_no_other(client: Client, target: str) -> None:
    """Neither reading nor writing nor deleting."""
    bearer = f"Bearer {APP}"
    assert 403 == client.ask("GET", target, authorization=bearer).status
    assert 403 == client.ask("DELETE", "/acme/other/clean", authorization=bearer).status
    assert 403 == client.ask("GET", "/metrics", authorization=bearer).status
    assert 403 == client.ask("PUT", target, b"x", authorization=bearer).status


def test_a_project_is_cleaned(client: Client) -> None:
    """DELETE …/clean deletes what one project has, and nothing of others."""
    for project in ("clean/app", "clean/app2"):
        for key in ("a", "b/c", "key-values/d"):
            assert 200 == client.ask("PUT", f"/{project}/{key}", b"x").status
    assert 200 == client.ask("DELETE", "/clean/app/clean").status
    for key in ("a", "b/c", "key-values/d"):
        assert 404 == client.ask("GET", f"/clean/app/{key}").status
        assert 200 == client.ask("GET", f"/clean/app2/{key}").status


def test_turborepo_is_answered(client: Client) -> None:
    """The project comes from the team, or from the token."""
    assert b'{"status": "enabled"}' == client.ask("GET", "/v8/artifacts/status").body
    assert 202 == client.ask("PUT", "/v8/artifacts/abc?slug=acme/app", b"log").status
    assert b"log" == client.ask("GET", "/acme/app/v8/artifacts/abc").body
    bearer = f"Bearer {APP}"
    found = client.ask("HEAD", "/v8/artifacts/abc?teamId=team_1", authorization=bearer)
    assert 200 == found.status
    assert 404 == client.ask("GET", "/v8/artifacts/abc?slug=acme/other").status
    assert 200 == client.ask("POST", "/v8/artifacts/events", b"[]").status
    preflight = client.ask("OPTIONS", "/v8/artifacts/abc", authorization="")
    assert (200, True) == (
        preflight.status,
        "Authorization" in preflight.headers["access-control-allow-headers"],
    )


@pytest.mark.parametrize("team", ["..%2f..", "a%00%2fb", "a%2fb%0a"])
def test_a_team_with_two_meanings_is_refused(client: Client, team: str) -> None:
    answer = client.ask("PUT", f"/v8/artifacts/abc?slug={team}", b"x")
    assert 400 == answer.status


def test_turborepo_gets_its_signature_back(client: Client) -> None:
    """Headers of an artifact are stored with it, also when there are none any more."""
    target = "/v8/artifacts/signed?slug=acme/app"
    client.ask("PUT", target, b"log", x_artifact_tag="MAC", x_artifact_duration="12")
    found = client.ask("GET", target).headers
    assert ("MAC", "12") == (found["x-artifact-tag"], found["x-artifact-duration"])
    client.ask("PUT", target, b"log")
    assert "x-artifact-tag" not in client.ask("GET", target).headers


def test_a_digest_is_checked_and_returned(client: Client) -> None:
    """An upload with another SHA-256 than announced is not stored."""
    digest = hashlib.sha256(b"data").hexdigest()
    for announced, status in ((digest, 200), ("0" * 64, 422)):
        answer = client.ask("PUT", f"/acme/app/{status}", b"data", x_checksum_sha256=announced)
        assert status == answer.status
    found = client.ask("GET", "/acme/app/200").headers
    assert (digest, f'"{digest}"') == (found["x-checksum-sha256"], found["etag"])
    assert 404 == client.ask("GET", "/acme/app/422").status
    assert 400 == client.ask("PUT", "/acme/app/x", b"data", x_checksum_sha256="none").status


def test_a_key_value_is_kept_per_project(client: Client) -> None:
    """PUT, GET and DELETE of a short value, which is in the database and in memory."""
    target = "/acme/app/key-values/cas%3A1"
    assert 404 == client.ask("GET", target).status
    assert 200 == client.ask("PUT", target, b"\x00value").status
    assert b"\x00value" == client.ask("GET", target).body
    assert 404 == client.ask("GET", "/acme/other/key-values/cas%3A1").status
    assert 204 == client.ask("DELETE", target).status
    assert 404 == client.ask("GET", target).status
    client.send(request("PUT", target, content_length="2000000"))
    assert 413 == client.answer().status


def test_a_large_key_value_is_returned_whole(client: Client) -> None:
    """Its response is sent in several pieces."""
    assert 200 == client.ask("PUT", "/acme/app/key-values/large", DATA).status
    assert DATA == client.ask("GET", "/acme/app/key-values/large").body


def test_nx_is_answered(client: Client) -> None:
    """The project is that of the token, or `default/default`."""
    bearer = f"Bearer {APP}"
    assert 200 == client.ask("PUT", "/v1/cache/123", b"tar", authorization=bearer).status
    assert b"tar" == client.ask("GET", "/acme/app/v1/cache/123").body
    assert 404 == client.ask("GET", "/v1/cache/123").status


def test_sccache_finds_every_folder(client: Client) -> None:
    """PROPFIND describes a folder, which need not exist, and repeats its name as XML."""
    folder = client.ask("PROPFIND", "/acme/app/a&b/", b"<xml/>", depth="0")
    assert (207, True) == (folder.status, b"<D:collection/>" in folder.body)
    assert b">/acme/app/a&amp;b/<" in folder.body
    assert 403 == client.ask("PROPFIND", "/acme/other/a/", authorization=f"Bearer {APP}").status


def test_metrics_count_requests(client: Client) -> None:
    """Prometheus reads the requests by method and status; unknown methods share a name."""
    client.ask("PATCH", "/acme/app/x")
    with Client(client.socket.getpeername()[1]) as other:
        text = other.ask("GET", "/metrics").body.decode()
    assert 'request_duration_seconds_count{method="other",status="405"}' in text
    assert "PATCH" not in text
    assert "forebay_queue_size{" in text


def test_the_access_log_has_no_secret(server: Server, client: Client) -> None:
    """A line for each request, without headers."""
    client.ask("GET", "/acme/app/logged", authorization=f"Bearer {TOKEN}")
    client.ask("GET", "/acme/app/logged2", authorization=basic("not a token"))

    def is_logged() -> bool:
        return '"GET /acme/app/logged2" 401' in server.log

    wait_until(is_logged, "both requests are logged", lambda: server.log)
    text = server.log
    assert '127.0.0.1 "GET /acme/app/logged" 404' in text
    assert TOKEN not in text
    assert "not a token" not in text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(tmp_path: Path, number: signal.Signals) -> None:
    """A request in progress is finished, idle connections are closed, new ones are refused."""
    with (
        build_cache(tmp_path / "cache") as server,
        Client(server.port) as idle,
        Client(server.port) as half,
        Client(server.port) as busy,
    ):
        assert 200 == idle.ask("GET", "/up").status
        half.send(b"GET /up HTTP/1.1\r\nhost:")
        busy.send(request("PUT", "/acme/app/x", content_length="4", expect="100-continue"))
        assert 100 == busy.answer().status
        server.program.process.send_signal(number)
        assert idle.is_closed()
        assert half.is_closed()
        busy.send(b"body")
        answer = busy.answer()
        assert (200, "close") == (answer.status, answer.headers["connection"])
        assert 0 == server.program.wait(), server.log
    with build_cache(tmp_path / "cache") as server, Client(server.port) as client:
        assert b"body" == client.ask("GET", "/acme/app/x").body


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_loses_no_upload(tmp_path: Path, number: signal.Signals) -> None:
    """It ends the program after the cache is closed, and not before."""
    with build_cache(tmp_path / "cache") as server, Client(server.port) as client:
        client.send(request("PUT", "/acme/app/x", content_length="4", expect="100-continue"))
        assert 100 == client.answer().status
        server.program.process.send_signal(number)
        server.program.wait_for("draining")
        server.program.process.send_signal(number)
        client.send(b"body")
        assert 200 == client.answer().status
        server.program.wait()
        assert "Traceback" not in server.log
    with build_cache(tmp_path / "cache") as server, Client(server.port) as client:
        assert b"body" == client.ask("GET", "/acme/app/x").body


def test_sigterm_does_not_wait_for_a_client_that_stops(tmp_path: Path) -> None:
    """Clients that send or read nothing delay the end by the drain's time at most."""
    with (
        build_cache(tmp_path / "cache", "--drain-timeout", "0.5") as server,
        Client(server.port) as writer,
        Client(server.port, receive_buffer=4096) as reader,
    ):
        large = bytes(20_000_000)
        assert 200 == reader.ask("PUT", "/acme/app/large", large).status
        reader.send(request("GET", "/acme/app/large"))
        writer.send(request("PUT", "/acme/app/x", content_length="4", expect="100-continue"))
        assert 100 == writer.answer().status
        started = time.monotonic()
        server.program.terminate()
        assert time.monotonic() - started < 10
