"""The example that crawls a site, which the test serves."""

from __future__ import annotations

import http.server
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from threading import Event, Thread

from tests.examples.programs import example, rows, run_section, started
from tests.ports import free_port

KNOWN = 100
BROKEN = '<title>Broken</title><a href="/after"><![x[ y ]]>'


@dataclass
class Site:
    """A site of 100 pages, each with links to all pages, to other sites and to nowhere.

    Attributes:
        url: its first page.
        requests: how often each path was requested.
        go_on: the answers wait for it from the 20th page on.
        reached: is set at the 20th page.
    """

    url: str = ""
    requests: Counter[str] = field(default_factory=Counter)
    go_on: Event = field(default_factory=Event)
    reached: Event = field(default_factory=Event)

    def answer(self, path: str) -> tuple[int, str]:
        if path == "/robots.txt":
            return 200, "User-agent: *\nDisallow: /private\n"
        if path == "/moved":
            return 301, "/page/1"
        if path == "/broken":
            return 200, BROKEN
        if path == "/after":
            return 200, "no title"
        if path == "/":
            links = ["/moved", "/broken", "/private", "mailto:a@b", "http://[", "https://b.test/"]
            links += [f"page/{number}#part" for number in range(KNOWN)]
            return 200, "<title>Start</title>" + "".join(
                f'<a href="{link}">x</a>' for link in links
            )
        if path.startswith("/page/"):
            links = ["/", "/moved", *(f"/page/{number}" for number in range(KNOWN))]
            title = path.removeprefix("/")
            return 200, f"<title>{title}</title>" + "".join(f'<a href="{link}">' for link in links)
        return 404, "<title>Not found</title>"


@contextmanager
def serving(*, wait: bool = False) -> Iterator[Site]:
    site = Site()
    if not wait:
        site.go_on.set()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.requests[self.path] += 1
            if site.requests.total() >= 20:
                site.reached.set()
                site.go_on.wait(60)
            status, text = site.answer(self.path)
            self.send_response(status)
            if status == 301:
                self.send_header("Location", text)
                text = ""
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name
            pass

        def handle(self) -> None:
            with suppress(ConnectionError):  # the crawler was stopped
                super().handle()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        site.url = f"http://127.0.0.1:{server.server_port}/"
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield site
        finally:
            site.go_on.set()
            server.shutdown()
            thread.join()


def crawl(site: Site, folder: Path) -> None:
    with started(example("crawler.py", "crawl.db", site.url), folder) as program:
        assert 0 == program.wait(), program.output


def found(folder: Path) -> dict[str, tuple[int | None, str]]:
    return {
        url: (status, title)
        for url, status, title in rows(folder / "crawl.db", "SELECT * FROM pages")
    }


def expected(site: Site) -> dict[str, tuple[int | None, str]]:
    pages: dict[str, tuple[int | None, str]] = {
        f"{site.url}page/{number}": (200, f"page/{number}") for number in range(KNOWN)
    }
    broken = (200, "Broken")
    try:
        HTMLParser().feed(BROKEN)
    except AssertionError as error:  # of some versions of Python
        broken = (0, f"AssertionError: {error}")
    return {
        **pages,
        site.url: (200, "Start"),
        f"{site.url}moved": (301, ""),
        f"{site.url}broken": broken,
        f"{site.url}after": (200, ""),
    }


def test_the_readme(tmp_path: Path) -> None:
    """The commands of the README print what it says."""
    run_section("A crawler", tmp_path, {"8000": str(free_port())})


def test_each_page_is_fetched_once(tmp_path: Path) -> None:
    """Eight fetchers find all links on each page. Links that lead nowhere change nothing."""
    with serving() as site:
        crawl(site, tmp_path)
        assert {1} == set(site.requests.values())
        assert "/private" not in site.requests
        assert expected(site) == found(tmp_path)


def test_a_stopped_crawl_goes_on(tmp_path: Path) -> None:
    """After SIGTERM each page that was fetched is in the table, and is not fetched again."""
    with serving(wait=True) as site:
        command = example("crawler.py", "crawl.db", site.url)
        with started(command, tmp_path) as program:
            assert site.reached.wait(60)
            program.terminate()
        before = site.requests.copy()
        stopped = found(tmp_path)
        done = [url for url, (status, _) in stopped.items() if status is not None]
        assert 10 <= len(done) < 20
        site.go_on.set()
        crawl(site, tmp_path)
        assert expected(site) == found(tmp_path)
        after = {f"{site.url}{path[1:]}": count for path, count in (site.requests - before).items()}
        assert [] == [url for url in done if url in after]


def test_a_killed_crawl_goes_on(tmp_path: Path) -> None:
    """After kill -9 some pages are fetched again, and none is missing at the end."""
    with serving(wait=True) as site:
        command = example("crawler.py", "crawl.db", site.url)
        with started(command, tmp_path) as program:
            assert site.reached.wait(60)
            program.kill()
        site.go_on.set()
        crawl(site, tmp_path)
        assert expected(site) == found(tmp_path)
