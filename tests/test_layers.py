"""The layers of the package: a module imports only from its own layer and from those above it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import forebay

ROOT = Path(forebay.__file__).parent

LAYERS = [
    "_version",
    "_portable",
    "_format",
    "_table",
    "_errors",
    "_decoding",
    "_option_rules",
    "_options",
    "_toml_file",
    "_settings",
    "_batching",
    "_database",
    "_own_files",
    "_spill",
    "_owner",
    "_protection",
    "sqlite",
    "stores",
    "stores.sqlite",
    "stores.clickhouse",
    "_buffer",
    "_telemetry",
    "_group",
    "dead_letters",
    "doctor",
    "_statistics_socket",
    "otlp",
    "monitoring",
    "testing",
    "forebay",
    "cache",
    "cli",
    "__main__",
]
"""Packages and modules, the lowest layer first. `forebay` is the file `forebay/__init__.py`."""

PURE = (
    "_portable",
    "_format",
    "_table",
    "_errors",
    "_decoding",
    "_option_rules",
    "_options",
    "_toml_file",
    "_settings",
    "_batching",
    "_database",
    "_own_files",
    "_spill",
)
"""Layers that know neither Trio nor a database nor OpenTelemetry."""

LIBRARIES = {
    "trio": set(LAYERS) - set(PURE),
    "anyio": {"sqlite", "cache"},
    "sqlite3": {
        "sqlite",
        "stores.sqlite",
        "stores.clickhouse",
        "dead_letters",
        "doctor",
        "cache",
        "cli",
    },
    "opentelemetry": {"_telemetry", "otlp", "cache"},
    "httpx": {"stores.clickhouse"},
    "click": {"cli"},
    "rich": {"cli"},
}
"""Which layers may import a library. A library that is not listed may be imported anywhere."""


def modules() -> Iterator[tuple[str, Path]]:
    """Yield each module's dotted name and its file."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


def layer(module: str) -> str:
    """Return the layer of one of our modules: the longest name in `LAYERS` that contains it."""
    parts = module.removeprefix("forebay.").split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((name for name in names if name in LAYERS), f"{module} is in no layer")


def imports(module: str) -> Iterator[str]:
    """Yield the dotted names of the modules that a module imports, wherever in its file."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in MODULES else str(node.module)


def test_every_module_is_in_a_layer() -> None:
    """A new package or module is added to the list, and one that is gone is removed from it."""
    assert set(LAYERS) == {layer(module) for module in MODULES}


def test_contributing_lists_the_layers() -> None:
    """CONTRIBUTING lists the layers for readers, in the order of `LAYERS`."""
    text = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text()
    table = text[text.index("| layer |") : text.index("A pure layer")]
    listed = re.findall(
        r"`(.+?)`", "".join(line.split("|")[1] for line in table.split("\n") if line)
    )
    unlisted = {"_version", "stores.sqlite", "stores.clickhouse", "forebay", "__main__"}
    assert [layer for layer in LAYERS if layer not in unlisted] == listed


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_no_higher_layer(module: str) -> None:
    """Data flows one way, and so do imports."""
    height = LAYERS.index(layer(module))
    ours = [name for name in imports(module) if name.split(".")[0] == "forebay"]
    assert [] == [name for name in ours if LAYERS.index(layer(name)) > height]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_is_imported_in_its_layers_alone(library: str) -> None:
    """Trio, databases, telemetry and the terminal each have their places."""
    users = {
        layer(module)
        for module in MODULES
        if library in {name.split(".")[0] for name in imports(module)}
    }
    assert set() == users - LIBRARIES[library]


def test_the_cache_uses_the_public_api_alone() -> None:
    """`forebay.cache` proves that the public API is enough for a program of its size."""
    for module in MODULES:
        if layer(module) == "cache":
            others = [name for name in imports(module) if layer(name) not in ("cache", name)]
            private = [name for name in others if "._" in name and name in MODULES]
            assert [] == private, f"{module} imports private modules"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_a_docstring_and_postponed_annotations(module: str) -> None:
    """A reader learns from the first line of a file what it is for."""
    tree = ast.parse(MODULES[module].read_text())
    assert ast.get_docstring(tree)
    if any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in tree.body):
        future = tree.body[1]
        assert isinstance(future, ast.ImportFrom)
        assert "__future__" == future.module


def test_public_names_are_listed() -> None:
    """`forebay.__all__` is sorted and has all public names of the package."""
    submodules = {name.split(".")[1] for name in MODULES if name.count(".") == 1}
    names = {name for name in vars(forebay) if not name.startswith("_")} - {"annotations"}
    listed = set(forebay.__all__)
    assert sorted(listed) == list(forebay.__all__)
    assert listed <= names | {"__version__"}
    assert set() == names - listed - submodules


def test_the_clickhouse_store_is_imported_on_demand() -> None:
    """It needs as many modules as the rest, and most programs do not use it."""
    code = "import sys, forebay; print([m for m in sys.modules if 'clickhouse' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert b"[]" == done.stdout.strip()
