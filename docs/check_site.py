"""Check the built site: `nox -s docs` runs this with pytest once the site is built."""

from __future__ import annotations

import functools
import importlib.util
import re
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click
import pytest

import forebay
from forebay.cli._command import command as forebay_command

ROOT = Path(__file__).parent.parent
SITE = ROOT / "build" / "docs"
PAGES = sorted(SITE.rglob("*.html"))


class Page(HTMLParser):
    """The links of a page, the anchors in it, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.text = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.anchors.update(value for name, value in attributes if name == "id" and value)
        link = values.get("href") if tag in ("a", "link") else values.get("src")
        if link:
            self.links.append(link)

    def handle_data(self, data: str) -> None:
        self.text += data


read = functools.cache(Page)


def is_broken(page: Path, link: str) -> bool:
    """Return whether a link to a place in the site leads nowhere."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return False
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.is_file():
        return True
    anchor = unquote(parts.fragment)
    return bool(anchor) and target.suffix == ".html" and anchor not in read(target).anchors


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(SITE)))
def test_links_lead_to_a_file_and_an_anchor(page: Path) -> None:
    """Each link inside the site leads to a file of the site, and to an anchor that it has."""
    assert [] == [link for link in read(page).links if is_broken(page, link)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(SITE)))
def test_a_page_says_with_which_version_it_was_tested(page: Path) -> None:
    """It is the version of the package that was installed when the site was built."""
    assert f"Tested with forebay {forebay.__version__}" in read(page).text


def commands(name: str, command: click.Command | None) -> Iterator[tuple[str, click.Command]]:
    """Yield a command and all commands in it, each with its name."""
    assert command is not None
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for child in command.list_commands(context):
            yield from commands(f"{name} {child}", command.get_command(context, child))


COMMANDS = dict(commands("forebay", forebay_command))


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_the_command_line_has_each_help_text(command: click.Command) -> None:
    """Each word, sign and metavar is on the page as `--help` prints it, so it can be copied."""
    page = " ".join(read(SITE / "command-line.html").text.split())
    options = [option for option in command.params if isinstance(option, click.Option)]
    texts = [command.help or "", *(option.help or "" for option in options)]
    blocks = [" ".join(text.replace("\b", "").split()) for text in texts]
    metavars = [f"<{option.metavar}>" for option in options if option.metavar]
    assert [] == [text for text in blocks + metavars if text not in page]


def public_names() -> set[str]:
    """Return the public names that docs/conf.py lists, from the `__all__` of each module."""
    spec = importlib.util.spec_from_file_location("conf", ROOT / "docs" / "conf.py")
    assert spec is not None
    assert spec.loader is not None
    configuration = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(configuration)
    return {name for name, _ in configuration.public_names()}


REFERENCE = [page for page in PAGES if page.parent.name == "api"]


@pytest.mark.parametrize("page", REFERENCE, ids=lambda page: page.name)
def test_the_reference_names_no_private_module(page: Path) -> None:
    """A program imports each name from a public module."""
    private = re.findall(r"\bforebay(?:\.[a-z]\w*)*\._[a-z][\w.]*", read(page).text)
    assert [] == private


def test_the_inventory_has_each_public_name() -> None:
    """Other sites can link to each name by the path by which a program imports it."""
    *_, packed = (SITE / "objects.inv").read_bytes().split(b"\n", maxsplit=4)
    lines = zlib.decompress(packed).decode().splitlines()
    names = {name for name, kind, *_ in map(str.split, lines) if kind.startswith("py:")}
    assert set() == public_names() - names


def test_each_module_with_public_names_is_listed() -> None:
    """docs/conf.py lists each module that has an `__all__`; all others are private."""
    source = ROOT / "src" / "forebay"
    found = {
        ".".join(path.relative_to(source.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in source.rglob("*.py")
        if not re.search(r"/_(?!_init__)", str(path)) and "\n__all__ = " in path.read_text()
    }
    listed = {name.rpartition(".")[0] for name in public_names()}
    assert found == listed
