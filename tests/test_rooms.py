"""The rooms of the package: what each module may import, and how it is laid out."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import forebay

ROOT = Path(forebay.__file__).parent

WATCHED = {"trio", "anyio", "sqlite3", "opentelemetry"}
"""What a room may import only where the table says so. The rest of the world is left to taste."""

ROOMS = {
    # Pure: neither Trio nor a database nor telemetry.
    "_version": "",
    "_operations": "",
    "_database": "",
    "_errors": "_operations",
    "_options": "_errors",
    "_settings": "_errors _options",
    "_merge": "",
    "_columns": "_merge",
    "_check": "_columns _merge _operations",
    "_table": "_check _columns _merge _operations",
    "_letters": "_merge _operations _table",
    "_spill": "_database _errors _letters _operations _table",
    "_flush_policy": "_options",
    "_dead_letter_limit": "",
    "_batch": "_flush_policy _operations _table",
    "_coalesce": "_batch _flush_policy _merge _operations _table",
    "stores": "_batch _database _operations _table",
    "stores._statements": "_batch _columns _merge _operations _table",
    "stores._identity": "_errors",
    "stores._wal": "stores._identity",
    # The buffer: Trio, and no database.
    "_capacity": "trio",
    "_ledger": "stores trio",
    "_observer": "_ledger stores",
    "_live": "_ledger stores trio",
    "_telemetry": "_errors _flush_policy _ledger _live _observer _version opentelemetry stores "
    "trio",
    "_intake": "_capacity _ledger _observer _operations trio",
    "_buffer": "_errors _intake _operations _table trio",
    "_worker": "_batch _buffer _capacity _coalesce _dead_letter_limit _errors _flush_policy "
    "_intake _ledger _observer _operations _options _table stores trio",
    "_group": "_buffer _columns _database _errors _observer _options _spill _table _telemetry "
    "_worker stores trio",
    "_otel_variables": "",
    "otlp": "_otel_variables opentelemetry trio",
    "monitoring": "",
    "_statistics_socket": "_group trio",
    "testing": "_batch _coalesce _operations _table stores trio",
    # SQLite for Trio, which knows nothing of buffers.
    "sqlite._codes": "sqlite3",
    "sqlite._opening": "sqlite._codes sqlite3",
    "sqlite._transaction": "sqlite._codes sqlite3",
    "sqlite._handover": "trio",
    "sqlite._thread": "sqlite._handover anyio trio",
    "sqlite._connection": "sqlite._handover sqlite._opening sqlite._thread sqlite._transaction "
    "anyio sqlite3 trio",
    "sqlite": "sqlite._connection sqlite._transaction",
    # The SQLite store.
    "stores._failures": "_errors stores sqlite3",
    "stores._readers": "sqlite sqlite3 trio",
    "stores._progress": "sqlite3",
    "stores._database": "sqlite3",
    "stores._dead_letters": "_errors _letters _operations _spill _table sqlite3",
    "stores._silent": "sqlite3",
    "stores._schema": "_columns _errors _table stores._statements sqlite3",
    "stores._commit": "_batch _coalesce _letters _operations sqlite stores stores._dead_letters "
    "stores._failures stores._progress stores._statements sqlite3",
    "stores.sqlite": "_batch _database _errors _options _table sqlite stores stores._commit "
    "stores._database stores._failures stores._identity stores._progress stores._readers "
    "stores._schema stores._silent stores._statements stores._wal sqlite3 trio",
    # Dead letters, read and replayed.
    "stores._replaying": "_table stores stores._dead_letters stores.sqlite sqlite3",
    "_dead_letter": "_errors _letters _operations _table sqlite",
    "_replay": "_buffer _group _operations _options _table stores._replaying stores.sqlite",
    "dead_letters": "_database _dead_letter _errors _letters _operations _options _replay _spill "
    "_table sqlite stores._database stores._dead_letters stores._failures stores.sqlite trio",
    # The doctor.
    "_finding": "",
    "stores._health": "_dead_letter _errors _finding _letters _table stores._dead_letters "
    "stores._failures stores._schema stores._silent stores._statements sqlite3",
    "stores._examination": "_finding _table sqlite stores._database stores._failures "
    "stores._health sqlite3 trio",
    "doctor": "_database _errors _finding _spill _table stores._examination stores._health trio",
    "": "_buffer _errors _flush_policy _group _merge _operations _options _settings "
    "_statistics_socket _table "
    "_version dead_letters doctor sqlite stores stores.sqlite",
}
"""What each module may import of the others, which stand above it, and of `WATCHED`.

A module that is not here yet: put it below all that it needs, above all that need it.
"""

GUESTS = ("cli", "cache", "__main__")
"""Packages that use forebay as any program does."""

CODE_LINES = 300
"""The most lines of a module, without docstrings, comments and blank lines."""


def modules() -> Iterator[tuple[str, Path]]:
    """Give the modules of the package by their names below `forebay`."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())
HOSTS = [name for name in MODULES if name.split(".")[0] not in GUESTS]


def imports(name: str) -> Iterator[str]:
    """Give what a module imports, wherever in it: our modules below `forebay.`, others' tops."""
    path = MODULES[name]
    package = ["forebay", *path.parent.relative_to(ROOT).parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                whole = f"{source}.{alias.name}"
                yield whole if whole.removeprefix("forebay.") in MODULES else source


def allowed(name: str) -> set[str]:
    return {part if part in WATCHED else f"forebay.{part}" for part in ROOMS[name].split()} | {
        "forebay"
    }


def test_every_module_has_its_place() -> None:
    """The table names the modules that there are, each below the ones it may import."""
    assert sorted(HOSTS) == sorted(ROOMS)
    order = list(ROOMS)
    for name, needs in ROOMS.items():
        for need in set(needs.split()) - WATCHED:
            assert order.index(need) < order.index(name), f"{name} stands above {need}"


@pytest.mark.parametrize("name", HOSTS)
def test_a_module_imports_what_its_room_may(name: str) -> None:
    """Data walks one way, so imports do: see `ROOMS`."""
    found = {
        source
        for source in imports(name)
        if source.startswith("forebay.") or source.split(".")[0] in WATCHED
    }
    tops = {s if s.startswith("forebay.") else s.split(".")[0] for s in found}
    assert set() == tops - allowed(name)


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        ("sqlite3", ("sqlite", "stores")),
        ("opentelemetry", ("_telemetry", "otlp")),
        ("click", ("cli",)),
        ("rich", ("cli",)),
    ],
)
def test_a_library_is_known_to_its_rooms_alone(library: str, rooms: tuple[str, ...]) -> None:
    """A database, telemetry and the terminal each have a place, and no other room knows them."""
    users = {name for name in MODULES if library in {s.split(".")[0] for s in imports(name)}}
    assert [] == [name for name in users if name.split(".")[0] not in rooms]


def test_guests_use_public_names_alone() -> None:
    """The command and the build cache could be anybody's programs."""
    for name in MODULES.keys() - set(HOSTS):
        guest = f"forebay.{name.partition('.')[0]}"
        for source in imports(name):
            private = any(part.startswith("_") for part in source.split("."))
            if source.startswith("forebay.") and not source.startswith(guest):
                assert not private, f"{name} imports {source}"


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_it_is(name: str) -> None:
    """Each module begins with a docstring, and postpones its annotations."""
    tree = ast.parse(MODULES[name].read_text())
    assert ast.get_docstring(tree)
    if len(tree.body) > 1 and name != "_version":
        future = tree.body[1]
        assert isinstance(future, ast.ImportFrom)
        assert "__future__" == future.module


@pytest.mark.parametrize("name", MODULES)
def test_public_names_are_sorted(name: str) -> None:
    """`__all__` is in order, without doubles."""
    for node in ast.parse(MODULES[name].read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names = ast.literal_eval(node.value)
            assert sorted(set(names)) == names


def test_public_names_are_there() -> None:
    """What `forebay.__all__` promises can be had, and nothing else without an underscore."""
    there = {name for name in vars(forebay) if not name.startswith("_")}
    modules_below = {name for name in MODULES if "." not in name}
    assert set(forebay.__all__) - {"__version__"} == there - modules_below - {"annotations"} | {
        "dead_letters",
        "doctor",
        "sqlite",
        "stores",
    }


@pytest.mark.parametrize("name", MODULES)
def test_a_module_holds_one_concept(name: str) -> None:
    """A module past the limit holds one more, which wants a room of its own."""
    source = MODULES[name].read_text()
    prose: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            prose.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    code = [
        line
        for number, line in enumerate(source.splitlines(), 1)
        if number not in prose and line.strip() and not line.strip().startswith("#")
    ]
    assert len(code) <= CODE_LINES
