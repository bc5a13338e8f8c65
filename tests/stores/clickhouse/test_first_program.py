"""README's first program runs on both stores, and differs in the line that opens the store."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from tests.stores.clickhouse.real_server import RealServer

README = Path(__file__).parents[3] / "README.md"
OPEN = 'forebay.open_sqlite("crawl.db", create=[pages]) as store,'


def test_the_first_program_runs_on_both_stores(
    server: RealServer, database: str, tmp_path: Path
) -> None:
    """The same row is in the same table."""
    program = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[0]
    assert 1 == program.count(OPEN)
    opened = f'open_clickhouse("{server.url}", database="{database}", spool="s.db", create=[pages])'
    other = program.replace(OPEN, f"{opened} as store,").replace(
        "import trio", "import trio\nfrom forebay.stores.clickhouse import open_clickhouse"
    )
    for text in (program, other):
        subprocess.run([sys.executable, "-c", text], cwd=tmp_path, check=True, timeout=120)
    with closing(sqlite3.connect(tmp_path / "crawl.db")) as raw:
        in_sqlite = raw.execute("SELECT * FROM pages").fetchall()
    in_clickhouse = server.query(f"SELECT url, status FROM {database}.pages FINAL")
    assert [list(row) for row in in_sqlite] == in_clickhouse == [["https://example.org/", 200]]
