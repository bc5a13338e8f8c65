"""Crawl one site, and keep the status and the title of each page. A stopped crawl can be resumed.

The table is also the set of known pages: `buffer.get` finds those that are not committed yet.
"""

import signal
import sys
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from typing import NamedTuple
from urllib.parse import urldefrag, urljoin, urlsplit
from urllib.robotparser import RobotFileParser

import httpx
import trio

import forebay

AGENT = "forebay-example-crawler"
FETCHERS = 8


class Page(NamedTuple):
    url: str
    status: int | None = None  # None: not fetched yet; 0: the title is the error
    title: str = ""


pages = forebay.Table(Page, name="pages", key="url", indexes=["status"])


class Document(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.title, self.links, self.open_tag = "", list[str](), ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open_tag = tag
        self.links += [value for name, value in attrs if (tag, name) == ("a", "href") and value]

    def handle_data(self, data: str) -> None:
        if self.open_tag == "title":
            self.title += data.strip()


async def load(client: httpx.AsyncClient, url: str) -> tuple[Page, list[str]]:
    """Fetch a page, and return it with its links."""
    document = Document()
    try:
        with trio.fail_after(60):
            async with client.stream("GET", url) as response:
                document.links += response.headers.get_list("Location")
                if response.headers.get("Content-Type", "").startswith("text/html"):
                    async for text in response.aiter_text():
                        document.feed(text)  # raises AssertionError for some malformed pages
    except (httpx.HTTPError, httpx.InvalidURL, trio.TooSlowError, AssertionError) as error:
        return Page(url, 0, f"{type(error).__name__}: {error}"), document.links
    return Page(url, response.status_code, document.title), document.links


async def crawl(store: forebay.SqliteStore, buffer: forebay.Buffer[Page], start: str) -> None:
    robots = RobotFileParser()
    lock = trio.Lock()

    async def add(base: str, links: Iterable[str]) -> None:
        for link in links:
            try:
                url = urldefrag(urljoin(base, link)).url
                inside = urlsplit(url)[:2] == urlsplit(start)[:2]  # the same scheme and host
            except ValueError:  # the link is not a URL
                continue
            if inside and robots.can_fetch(AGENT, url):
                async with lock:  # no other fetcher enqueues the page after this `get`
                    if await buffer.get(url) is None:
                        await buffer.enqueue(Page(url))

    async def fetch(client: httpx.AsyncClient, found: Iterator[Page]) -> None:
        for known in found:  # the fetchers share the iterator
            page, links = await load(client, known.url)
            await add(page.url, links)  # first, since a crash loses the last entries, if any
            await buffer.enqueue(page)

    async with httpx.AsyncClient(headers={"User-Agent": AGENT}) as client:
        answer = await client.get(urljoin(start, "/robots.txt"))
        robots.parse(answer.text.splitlines() if answer.is_success else [])
        await add(start, [start])
        await buffer.flush()
        sql = "SELECT * FROM pages WHERE status IS NULL LIMIT 500"
        while found := await store.fetch_all(sql, table=pages):
            async with trio.open_nursery() as nursery:
                todo = iter(found)
                for _ in range(FETCHERS):
                    nursery.start_soon(fetch, client, todo)
            await buffer.flush()


async def end_on_signal(
    work: trio.CancelScope, buffers: forebay.Buffers, task_status: trio.TaskStatus[None]
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        await anext(signals)
        work.cancel()  # then the buffers drain
        await anext(signals)
        buffers.give_up()  # a second signal ends the drain


async def main(database: str, start: str) -> None:
    async with forebay.open_sqlite(database, create=[pages]) as store, trio.open_nursery() as tasks:
        async with forebay.open_buffers(store, pages) as buffers:
            with trio.CancelScope() as work:
                await tasks.start(end_on_signal, work, buffers)
                await crawl(store, buffers[pages], start)
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: crawler.py DATABASE URL")
    trio.run(main, sys.argv[1], sys.argv[2])
