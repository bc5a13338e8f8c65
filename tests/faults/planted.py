"""Files that another user puts where a program would create its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

USER, OTHER = 12_345, 54_321
"""The user whose program runs, and another one; neither is the superuser."""

PLANTED = {
    "link": ("ln", "-s", "{target}", "{path}"),
    "dangling link": ("ln", "-s", "{target}.new", "{path}"),
    "file": ("touch", "{path}"),
    "pipe": ("mkfifo", "{path}"),
    "folder": ("mkdir", "-m", "777", "{path}"),
    "hard link": ("ln", "{target}", "{path}"),
}


def plant(kind: str, path: Path, target: Path, *, user: int = OTHER) -> None:
    if kind == "hard link":  # as before Linux 3.6, or with fs.protected_hardlinks = 0
        path.hardlink_to(target)
        os.chown(path, OTHER, OTHER)
        return
    command = [word.format(path=path, target=target) for word in PLANTED[kind]]
    subprocess.run(command, check=True, user=user, group=user, extra_groups=[])


def assert_unchanged(target: Path) -> None:
    assert "precious" == target.read_text()
    assert [target] == list(target.parent.iterdir())
