"""Check that links in the documentation lead somewhere, and that files it names exist."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import forebay
import forebay.cache

ROOT = Path(__file__).parent.parent
PAGES = [
    *(
        ROOT / name
        for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md", "examples/README.md")
    ),
    *sorted((ROOT / "docs").glob("*.md")),
]


def without_code(page: Path) -> str:
    """Return the text of a page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", without_code(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    """A link inside the repository names a file that exists, and a heading that the page has."""
    links = re.findall(r"\]\(([^)\s]+)\)", without_code(page))
    broken = []
    for link in links:
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert [] == broken


def test_each_page_is_in_the_index() -> None:
    """A new page has a line in a table of docs/index.md, and a place in the site's navigation."""
    index = ROOT / "docs" / "index.md"
    text = index.read_text()
    names = {path.stem for path in index.parent.glob("*.md")} - {"index"}
    trees = re.findall(r"^```\{toctree\}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert set() == names - set("\n".join(trees).split())
    assert set() == names - set(re.findall(r"\]\(([\w-]+)\.md\)", text)) - {"api"}


def test_each_block_has_a_language_that_says_whether_it_is_executed() -> None:
    """conftest.py executes `python`, `ini` and `console`; the others are only shown."""
    known = {"python", "ini", "console", "sh", "sql", "text", "toml", "json", "yaml", "groovy"}
    for page in (ROOT / "docs").glob("*.md"):
        opening = re.findall(r"^ *```(.*)$", page.read_text(), re.MULTILINE)[::2]
        assert set() == {name for name in opening if not name.startswith("{")} - known, page.name


def test_the_map_names_what_its_files_define() -> None:
    """Each name to look for, in the table "Where is …", is defined in a file of its line."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    table = text[text.index("| Where is … |") : text.index("## The layers")]
    lines = [line.split("|")[2:4] for line in table.strip().splitlines()[2:]]
    assert lines
    for files, names in lines:
        code = "".join(
            (ROOT / "src" / "forebay" / file).read_text() for file in re.findall(r"`(.+?)`", files)
        )
        for name in re.findall(r"`(.+?)`", names):
            assert re.search(rf"^\s*(async )?(class|def) {name}\b", code, re.MULTILINE), name


def test_the_map_names_files_that_exist() -> None:
    """Each Python file and folder that CONTRIBUTING names is in src/forebay, or at the root."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    names = set(re.findall(r"(?<![\w./])(?:\w+/)*\w+\.py\b|(?<![\w./])(?:\w+/)+(?=`)", text))
    places = [ROOT / "src" / "forebay", ROOT, ROOT / "benchmarks" / "questions"]
    assert len(names) > 20
    assert [] == sorted(n for n in names if not any((place / n).exists() for place in places))


def test_the_comparison_quotes_figures_of_the_benchmark() -> None:
    """Each ratio in docs/why.md is one of docs/benchmark.md, so a new run changes both."""
    ratios = re.findall(r"\d+\.\d\dx", (ROOT / "docs" / "why.md").read_text())
    measured = set(re.findall(r"\d+\.\d\dx", (ROOT / "docs" / "benchmark.md").read_text()))
    assert len(ratios) > 10
    assert [] == [ratio for ratio in ratios if ratio not in measured]


def test_the_page_of_errors_lists_each_public_class() -> None:
    """docs/errors.md has a row for each exception that a program can import."""
    text = (ROOT / "docs" / "errors.md").read_text()
    modules = [forebay, forebay.cache, forebay.sqlite, forebay.stores]
    errors = {
        f"{module.__name__}.{name}"
        for module in modules
        for name in module.__all__
        if isinstance(getattr(module, name), type) and name.endswith("Error")
    }
    assert len(errors) > 10
    assert set() == errors - set(re.findall(r"`([\w.]+)`", text))


def test_the_page_of_files_lists_each_table() -> None:
    """docs/files.md has each table whose name the code mentions."""
    text = (ROOT / "docs" / "files.md").read_text()
    code = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    tables = set(re.findall(r"CREATE TABLE IF NOT EXISTS main\.(forebay_\w+)", code))
    tables |= set(re.findall(r"^_?(?:TABLE|NAME)\b.* = .*\b(forebay_\w+)", code, re.MULTILINE))
    assert len(tables) == 9
    assert set() == tables - set(re.findall(r"`(\w+)`", text))


JOBS = ROOT / "tests" / "typing" / "jobs.py"
"""A copy of the program in docs/types.md, so that mypy and pyright check it."""


def test_the_service_that_keeps_jobs_is_short_and_typed() -> None:
    """It has fewer than 60 lines, and is the program that is checked."""
    text = (ROOT / "docs" / "types.md").read_text()
    section = text[text.index("## A service that keeps jobs") :]
    program = re.search(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert program is not None
    assert JOBS.read_text() == program[1]
    assert len(program[1].splitlines()) < 60


def in_the_shell(database: Path, sql: str) -> list[str]:
    """Return the lines that SQLite's shell prints; without it, what it would print."""
    if shutil.which("sqlite3"):
        command = ["sqlite3", "-readonly", str(database), sql]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout.splitlines()
    with closing(sqlite3.connect(database)) as raw:
        return ["|".join(map(str, row)) for row in raw.execute(sql)]


def test_the_table_of_jobs_is_one_that_a_person_can_read(tmp_path: Path) -> None:
    """Every value is text in its usual form, which SQLite's own functions understand."""
    printed = subprocess.run(
        [sys.executable, JOBS], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    assert "{<State.DONE: 'done'>: 2}\n" == printed
    database = tmp_path / "jobs.db"
    uuid = "-".join(f"[0-9a-f]{{{digits}}}" for digits in (8, 4, 4, 4, 12))
    time = r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}\+00:00"
    lines = in_the_shell(database, "SELECT * FROM jobs ORDER BY created")
    for line, url in zip(lines, ("/a", "/b"), strict=True):
        payload = re.escape(f'{{"url":"{url}","size":1024}}')
        assert re.fullmatch(rf"{uuid}\|done\|{payload}\|{time}\|{time}", line)
    columns = in_the_shell(database, "SELECT name, type FROM pragma_table_info('jobs')")
    names = ("id", "state", "payload", "created", "finished")
    assert [f"{name}|TEXT" for name in names] == columns
    question = (
        "SELECT json_extract(payload, '$.url'), datetime(created) = substr(created, 1, 19) "
        "FROM jobs WHERE finished > datetime('now', '-1 day') AND finished > created "
        "ORDER BY created"
    )
    assert ["/a|1", "/b|1"] == in_the_shell(database, question)
