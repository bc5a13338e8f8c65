"""`forebay.cli.main`: how the command ends when it is cut off from outside."""

from __future__ import annotations

import subprocess
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType

import pytest

from forebay import cli


class Interrupting(MetaPathFinder):
    """Ctrl-C comes as the command's module is looked for."""

    def find_spec(self, fullname: str, path: object, target: ModuleType | None = None) -> None:
        del path, target
        if fullname == "forebay.cli._command":
            raise KeyboardInterrupt


def test_sigint_during_the_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """130, as later, and no traceback."""
    monkeypatch.delitem(sys.modules, "forebay.cli._command", raising=False)
    monkeypatch.delattr(cli, "_command", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert 130 == caught.value.code


def test_a_reader_that_has_enough(tmp_path: Path) -> None:
    """As any command in a pipe: 141, without a word."""
    (tmp_path / "none.db").touch()
    arguments = [sys.executable, "-m", "forebay", "doctor", str(tmp_path / "none.db")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        told = process.stderr.read()
    assert (141, b"") == (process.returncode, told)
