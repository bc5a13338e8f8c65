"""Options from a mapping, a TOML file and the environment, and how these layers merge."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay import BufferOptions, OptionsError, RetryPolicy, Settings

ONE_OF = (
    "one of the names capacity, capacity_bytes, batch_size, flush_interval, drain_timeout, "
    "dead_letters_per_minute, on_failure, retry"
)
COUNT = "a whole number from 1 to 2**63 - 1"
VARIABLES = (
    "FOREBAY_CAPACITY, FOREBAY_CAPACITY_BYTES, FOREBAY_BATCH_SIZE, FOREBAY_FLUSH_INTERVAL, "
    "FOREBAY_DRAIN_TIMEOUT, FOREBAY_DEAD_LETTERS_PER_MINUTE, FOREBAY_ON_FAILURE, "
    "FOREBAY_RETRY__INITIAL_DELAY, FOREBAY_RETRY__MULTIPLIER, "
    "FOREBAY_RETRY__MAX_DELAY, FOREBAY_RETRY__JITTER, FOREBAY_RETRY__MAX_ATTEMPTS"
)


def test_empty_settings_are_the_defaults() -> None:
    """An empty mapping, or an environment without the prefix, changes no option."""
    expected = Settings(options=BufferOptions(), overrides={})

    assert expected == Settings()
    assert expected == Settings.from_mapping({})
    assert expected == Settings.from_env({"PATH": "/bin", "FOREBAY": "1"})


def test_an_override_inherits_the_options_that_it_does_not_name() -> None:
    """The options of a buffer are those of all buffers, changed by its part of `buffers`."""
    settings = Settings.from_mapping(
        {
            "flush_interval": 0.1,
            "retry": {"max_delay": 5, "jitter": 0},
            "buffers": {
                "key_values": {"flush_interval": 0.05, "retry": {"max_delay": 1}},
                "cas": {},
                "logs": BufferOptions(capacity=5),
            },
        }
    )

    options = BufferOptions(flush_interval=0.1, retry=RetryPolicy(max_delay=5, jitter=0))
    assert options == settings.options
    assert {
        "key_values": BufferOptions(flush_interval=0.05, retry=RetryPolicy(max_delay=1, jitter=0)),
        "cas": options,
        "logs": BufferOptions(capacity=5),
    } == settings.overrides


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (
            {"buffer": {}},
            f"buffer = {{}}: expected {ONE_OF}, buffers (did you mean buffers?)",
        ),
        (
            {"buffers": {"cas": {"flush_intervl": 1}}},
            f"buffers.cas.flush_intervl = 1: expected {ONE_OF} (did you mean flush_interval?)",
        ),
        (
            {"buffers": {"cas": {"retry": {"max_attempts": 0}}}},
            f"buffers.cas.retry.max_attempts = 0: expected {COUNT}, or None",
        ),
        ({"capacity": "100"}, f"capacity = '100': expected {COUNT}"),
        (
            {"buffers": {"cas": None}},
            "buffers.cas = None: expected a mapping with names as its keys",
        ),
        ({"buffers": None}, "buffers = None: expected a mapping with names as its keys"),
        ({"buffers": {"": {}}}, "buffers. = {}: expected a name as the key, not ''"),
        ("capacity", "options = 'capacity': expected a mapping with names as its keys"),
    ],
)
def test_an_invalid_mapping_is_refused(mapping: Any, message: str) -> None:
    """The error contains the path of the option, the value, and the valid values."""
    with pytest.raises(OptionsError) as caught:
        Settings.from_mapping(mapping)

    assert message == str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"options": None}, "options = None: expected a BufferOptions"),
        ({"overrides": {"cas": {}}}, "overrides.cas = {}: expected a BufferOptions"),
        ({"overrides": []}, "overrides = []: expected a mapping with names as its keys"),
    ],
)
def test_an_invalid_argument_of_settings_is_refused(
    arguments: dict[str, Any], message: str
) -> None:
    """The error contains the name of the argument."""
    with pytest.raises(OptionsError) as caught:
        Settings(**arguments)

    assert message == str(caught.value)


def test_settings_are_independent_of_the_mapping() -> None:
    """Later changes of the mapping have no effect, also not when another layer is added."""
    retry = {"max_delay": 5}
    mapping = {"retry": retry, "buffers": {"cas": {"capacity": 3}}}
    overrides = {"cas": BufferOptions()}
    read, made = Settings.from_mapping(mapping), Settings(overrides=overrides)

    retry["max_delay"] = 7
    del mapping["buffers"]
    overrides.clear()

    expected = Settings.from_mapping(
        {"retry": {"max_delay": 5}, "buffers": {"cas": {"capacity": 3}}}
    )
    assert expected == Settings.from_env({}, base=read)
    assert Settings(overrides={"cas": BufferOptions()}) == made


TOML = """
[tool.forebay]
flush_interval = 1
capacity_bytes = 1_000_000
retry = { max_delay = 5 }

[tool.forebay.buffers.key_values]
on_failure = "suspend"
flush_interval = inf
capacity_bytes = "none"
"""


@pytest.mark.parametrize("kind", [str, Path, os.fsencode])
def test_from_toml(tmp_path: Path, kind: Any) -> None:
    """A TOML table means the same as a mapping; the text `"none"` means None."""
    path = tmp_path / "pyproject.toml"
    path.write_text(TOML)

    expected = Settings.from_mapping(
        {
            "flush_interval": 1,
            "capacity_bytes": 1_000_000,
            "retry": {"max_delay": 5},
            "buffers": {
                "key_values": {
                    "on_failure": "suspend",
                    "flush_interval": math.inf,
                    "capacity_bytes": None,
                }
            },
        }
    )
    assert expected == Settings.from_toml(kind(path), table="tool.forebay")


@pytest.mark.parametrize(
    ("content", "table", "message"),
    [
        (b"[forebay]\ncapacity = 1.5", "forebay", f"capacity = 1.5: expected {COUNT}"),
        (b"[forebay]\ncapacity = 'none'", "forebay", f"capacity = None: expected {COUNT}"),
        (
            b"[forebay.buffers.cas]\nretry.jitter = 2021-01-01",
            "forebay",
            "buffers.cas.retry.jitter = datetime.date(2021, 1, 1): expected a number from 0 to 1",
        ),
        (
            b"[forbay]\n[tools]",
            "forebay",
            "no table [forebay]: expected one of the names forbay, tools (did you mean forbay?)",
        ),
        (b"", "forebay", "no table [forebay]: expected a table of that name"),
        (
            b"[tool.ruff]",
            "tool.forebay",
            "no table [tool.forebay]: expected one of the names ruff",
        ),
        (b"forebay = 3", "forebay", "forebay = 3: expected a table"),
        (b"[[tool]]", "tool.forebay", "tool.forebay = [{}]: expected a table"),
        (b"[forebay", "forebay", "Expected ']' at the end of a table declaration"),
        (b"[[[[", "forebay", "Invalid initial character for a key part"),
        (b"\xff", "forebay", "'utf-8' codec can't decode byte 0xff"),
        ("[forebay]".encode("utf-16"), "forebay", "'utf-8' codec can't decode byte 0xff"),
        (b"[forebay]\0", "forebay", "Expected newline"),
        (b"[forebay]\ncapacity = 1\ncapacity = 2", "forebay", "Cannot overwrite a value"),
        (b"[forebay]\n[forebay]", "forebay", "Cannot declare ('forebay',) twice"),
        (b"[forebay]\ncapacity = 0000-01-01", "forebay", "Invalid date or datetime"),
        (b"[forebay]\ncapacity = " + b"9" * 5_000, "forebay", "Exceeds the limit (4300 digits)"),
        (
            b"[forebay]\ncapacity = 0x" + b"f" * 5_000,
            "forebay",
            "capacity = <an integer of 20,000 bits>: expected",
        ),
        (b"a = " + b"[" * 100_000, "forebay", "the values are nested too deeply"),
        (b"a = " + b"{a = " * 100_000, "forebay", "the values are nested too deeply"),
        (
            b"[forebay]\n" + b".".join([b"a"] * 2_000) + b" = 1",
            "forebay",
            "the values are nested too deeply",
        ),
        (b"[forebay]\n#" + b"a" * 2**20, "forebay", "the file has more than 1,048,576 bytes"),
        (b"[forebay]\nflush_interval = 1e400", "forebay", "the number '1e400' is too large"),
        (b"[forebay]\nflush_interval = -1e400", "forebay", "the number '-1e400' is too large"),
        (b"[forebay]\nflush_interval = " + b"9" * 400 + b".0", "forebay", "the number '9"),
        (b"[forebay]\nflush_interval = " + b"9" * 400, "forebay", "flush_interval = 9"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_an_invalid_toml_file_is_refused(
    tmp_path: Path, content: bytes, table: str, message: str
) -> None:
    """The error begins with the path of the file."""
    path = tmp_path / "forebay.toml"
    path.write_bytes(content)

    with pytest.raises(OptionsError) as caught:
        Settings.from_toml(path, table)

    assert str(caught.value).startswith(f"{path}: {message}")
    assert len(str(caught.value)) < 300


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    """Some editors on Windows write one."""
    path = tmp_path / "forebay.toml"
    path.write_text("[forebay]\ncapacity = 3", encoding="utf-8-sig")

    assert Settings(BufferOptions(capacity=3)) == Settings.from_toml(path)


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_a_path_that_is_not_a_file_is_refused(tmp_path: Path, kind: str) -> None:
    """A pipe without a writer would make the program wait forever."""
    path = Path("/dev/null") if kind == "device" else tmp_path / kind
    if kind == "folder":
        path.mkdir()
    if kind == "pipe":
        os.mkfifo(path)

    with pytest.raises(OptionsError, match=rf"^{path}: this is not a regular file$"):
        Settings.from_toml(path)


def test_a_file_that_is_refused_is_closed(tmp_path: Path) -> None:
    """No descriptor stays open."""
    before = os.listdir("/dev/fd")  # noqa: PTH208  # only the names

    for _ in range(3):
        with pytest.raises(OptionsError):
            Settings.from_toml(tmp_path)

    assert len(before) == len(os.listdir("/dev/fd"))  # noqa: PTH208  # only the names


@pytest.mark.parametrize("path", ["a\0b", "\ud800", b"a\0"])
def test_a_path_that_no_file_can_have_is_refused(path: Any) -> None:
    """The error begins with the path, escaped."""
    with pytest.raises(OptionsError, match=r"^'(a\\x00b|\\ud800|a\\x00)': .*"):
        Settings.from_toml(path)


def test_a_missing_toml_file_raises_an_os_error(tmp_path: Path) -> None:
    """The error of the operating system names the file."""
    with pytest.raises(FileNotFoundError, match=r"absent\.toml"):
        Settings.from_toml(tmp_path / "absent.toml")


def test_from_env() -> None:
    """Names are in capital letters, two underscores separate levels, and values are parsed."""
    environ = {
        "FOREBAY_CAPACITY": "50_000",
        "FOREBAY_CAPACITY_BYTES": "None",
        "FOREBAY_FLUSH_INTERVAL": "inf",
        "FOREBAY_RETRY__MAX_DELAY": " 5 ",
        "FOREBAY_ON_FAILURE": " suspend ",
        "FOREBAY_BUFFERS__KEY_VALUES__FLUSH_INTERVAL": "5e-2",
        "FOREBAY_BUFFERS__KEY_VALUES__RETRY__MAX_ATTEMPTS": "3",
        "FOREBAY_BUFFERS__KEY_VALUES__ON_FAILURE": "stop",
        "FOREBAY_BUFFERS__a__b__CAPACITY": "7",
        "FOREBAY_BUFFERS___C___CAPACITY": "8",
        "HOME": "/root",
    }

    expected = Settings.from_mapping(
        {
            "capacity": 50_000,
            "flush_interval": math.inf,
            "retry": {"max_delay": 5.0},
            "on_failure": "suspend",
            "buffers": {
                "key_values": {
                    "flush_interval": 0.05,
                    "retry": {"max_attempts": 3},
                    "on_failure": "stop",
                },
                "a__b": {"capacity": 7},
                "_c_": {"capacity": 8},
            },
        }
    )
    assert expected == Settings.from_env(environ)


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `environ`, the variables are read from `os.environ` during the call."""
    monkeypatch.setenv("FOREBAY_CAPACITY", "5")

    assert Settings(BufferOptions(capacity=5)) == Settings.from_env()


def test_variables_without_the_prefix_are_ignored() -> None:
    """The prefix is an argument."""
    environ = {"CACHE_CAPACITY": "5", "FOREBAY_ANYTHING": "?"}

    assert Settings(BufferOptions(capacity=5)) == Settings.from_env(environ, prefix="CACHE_")


def test_an_empty_prefix_is_refused() -> None:
    """With an empty prefix, every variable of the process would have to be an option."""
    with pytest.raises(OptionsError, match=r"^prefix = '': expected at least one character$"):
        Settings.from_env({}, prefix="")


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("FOREBAY_CAPACITY", "1.5", COUNT),
        ("FOREBAY_CAPACITY", "", COUNT),
        ("FOREBAY_CAPACITY", "none", COUNT),
        ("FOREBAY_CAPACITY_BYTES", "lots", f"{COUNT}, or None"),
        ("FOREBAY_FLUSH_INTERVAL", "200ms", "a number of seconds of at least 0, or infinity"),
        ("FOREBAY_FLUSH_INTERVAL", "nan", "a number of seconds of at least 0, or infinity"),
        ("FOREBAY_FLUSH_INTERVAL", "1e400", "a number of seconds of at least 0, or infinity"),
        ("FOREBAY_FLUSH_INTERVAL", "-inf", "a number of seconds of at least 0, or infinity"),
        ("FOREBAY_FLUSH_INTERVAL", "\udcff", "a number of seconds of at least 0, or infinity"),
        ("FOREBAY_CAPACITY", "1e400", COUNT),
        ("FOREBAY_CAPACITY", "inf", COUNT),
        ("FOREBAY_BUFFERS__CAS__RETRY__JITTER", "2", "a number from 0 to 1"),
        ("FOREBAY_ON_FAILURE", "none", '"stop" or "suspend"'),
        ("FOREBAY_ON_FAILURE", "SUSPEND", '"stop" or "suspend"'),
    ],
)
def test_an_invalid_variable_is_refused(variable: str, text: str, expected: str) -> None:
    """The error contains the variable's name, its text, and the valid values."""
    with pytest.raises(OptionsError) as caught:
        Settings.from_env({variable: text})

    assert f"{variable} = {text!r}: expected {expected}" == str(caught.value)


@pytest.mark.parametrize("digits", [400, 5_000])
@pytest.mark.parametrize("option", ["CAPACITY", "FLUSH_INTERVAL"])
def test_a_number_of_many_digits_is_refused(option: str, digits: int) -> None:
    """The error has the name of the variable and fits in a line."""
    with pytest.raises(
        OptionsError, match=rf"^FOREBAY_{option} = '9+\.\.\.9+': expected a"
    ) as caught:
        Settings.from_env({f"FOREBAY_{option}": "9" * digits})

    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("FOREBAY_FLUSH_INTERVALL", " (did you mean FOREBAY_FLUSH_INTERVAL?)"),
        ("FOREBAY_RETRY_MAX_DELAY", " (did you mean FOREBAY_RETRY__MAX_DELAY?)"),
        ("FOREBAY_flush_interval", ""),
        ("FOREBAY_RETRY", " (did you mean FOREBAY_RETRY__JITTER?)"),
        ("FOREBAY_BUFFERS__CAPACITY", " (did you mean FOREBAY_CAPACITY?)"),
        ("FOREBAY_BUFFERS____CAPACITY", " (did you mean FOREBAY_CAPACITY?)"),
        ("FOREBAY_", " (did you mean FOREBAY_CAPACITY?)"),
    ],
)
def test_an_unknown_variable_is_refused(variable: str, hint: str) -> None:
    """The error lists the valid names and the closest one, but not the value."""
    with pytest.raises(OptionsError) as caught:
        Settings.from_env({variable: "hunter2"})

    assert f"{variable}: expected one of the names {VARIABLES}{hint}" == str(caught.value)


def test_an_unknown_variable_of_a_buffer_is_refused() -> None:
    """The error lists the variables of this buffer."""
    with pytest.raises(OptionsError) as caught:
        Settings.from_env({"FOREBAY_BUFFERS__CAS__RETRY__JITER": "0"})

    names = VARIABLES.replace("FOREBAY_", "FOREBAY_BUFFERS__CAS__")
    hint = "(did you mean FOREBAY_BUFFERS__CAS__RETRY__JITTER?)"
    assert f"FOREBAY_BUFFERS__CAS__RETRY__JITER: expected one of the names {names} {hint}" == str(
        caught.value
    )


def test_two_variables_for_one_option_are_refused() -> None:
    """If a buffer's name had two spellings, the order of the variables would decide."""
    environ = {"FOREBAY_BUFFERS__CAS__CAPACITY": "1", "FOREBAY_BUFFERS__cas__CAPACITY": "2"}

    with pytest.raises(OptionsError) as caught:
        Settings.from_env(environ)

    assert (
        "FOREBAY_BUFFERS__cas__CAPACITY and FOREBAY_BUFFERS__CAS__CAPACITY set the same option; "
        "unset one of them"
    ) == str(caught.value)


def test_the_case_of_a_buffers_name_in_a_variable() -> None:
    """A name matches a buffer of the base without regard to case; otherwise it is lower case."""
    base = Settings.from_mapping({"buffers": {"KeyValues": {"capacity": 3}}})
    environ = {
        "FOREBAY_BUFFERS__KEYVALUES__BATCH_SIZE": "2",
        "FOREBAY_BUFFERS__CAS__BATCH_SIZE": "1",
    }

    assert {
        "KeyValues": BufferOptions(capacity=3, batch_size=2),
        "cas": BufferOptions(batch_size=1),
    } == Settings.from_env(environ, base=base).overrides


def test_a_variable_for_all_buffers_does_not_change_a_complete_override() -> None:
    """An override that is a `BufferOptions` names every option, so only its own variables count."""
    base = Settings(BufferOptions(capacity=3), {"cas": BufferOptions(batch_size=9)})
    environ = {"FOREBAY_CAPACITY": "5", "FOREBAY_BUFFERS__CAS__RETRY__JITTER": "0"}

    expected = Settings(
        BufferOptions(capacity=5),
        {"cas": BufferOptions(batch_size=9, retry=RetryPolicy(jitter=0))},
    )
    assert expected == Settings.from_env(environ, base=base)


Names = tuple[str, ...]
COUNTS = st.integers(1, 10**6)
SECONDS = st.floats(1e-3, 1e6) | st.integers(1, 10**6)
VALUES: dict[Names, st.SearchStrategy[Any]] = {
    ("capacity",): COUNTS,
    ("capacity_bytes",): st.none() | COUNTS,
    ("flush_interval",): SECONDS | st.just(math.inf),
    ("retry", "max_delay"): SECONDS,
    ("retry", "max_attempts"): st.none() | COUNTS,
}
BUFFERS = ["cas", "key_values", "a__b"]
# A layer: values by the path of their option, for all buffers or for one.
LAYERS = st.fixed_dictionaries(
    {},
    optional={
        (*place, *path): values
        for path, values in VALUES.items()
        for place in [(), *(("buffers", buffer) for buffer in BUFFERS)]
    },
)


def as_mapping(layer: Mapping[Names, Any]) -> dict[str, Any]:
    """Return a layer as `Settings.from_mapping` expects it."""
    mapping: dict[str, Any] = {}
    for path, value in layer.items():
        group = mapping
        for name in path[:-1]:
            group = group.setdefault(name, {})
        group[path[-1]] = value
    return mapping


def as_variables(layer: Mapping[Names, Any]) -> dict[str, str]:
    """Return a layer as environment variables."""
    return {f"FOREBAY_{'__'.join(path)}".upper(): str(value) for path, value in layer.items()}


def as_toml(layer: Mapping[Names, Any]) -> str:
    """Return a layer as the text of a TOML file."""
    lines = [
        f"{'.'.join(path)} = {json.dumps('none') if value is None else value}"
        for path, value in layer.items()
    ]
    return "\n".join(["[forebay]", *lines])


def option(options: BufferOptions, path: Names) -> Any:
    """Return the value of the option with this path."""
    value: Any = options
    for name in path:
        value = getattr(value, name)
    return value


@given(base=LAYERS, above=LAYERS)
def test_precedence_of_layers(base: dict[Names, Any], above: dict[Names, Any]) -> None:
    """A value for one buffer precedes one for all; in both, the environment precedes the base."""
    settings = Settings.from_env(as_variables(above), base=Settings.from_mapping(as_mapping(base)))

    named = {path[1] for path in base.keys() | above.keys() if path[0] == "buffers"}
    assert named == settings.overrides.keys()
    for place, options in [
        ((), settings.options),
        *((("buffers", name), options) for name, options in settings.overrides.items()),
    ]:
        for path in VALUES:
            layers = [(above, place), (base, place), (above, ()), (base, ())]
            found = [layer[*at, *path] for layer, at in layers if (*at, *path) in layer]
            expected = [*found, option(BufferOptions(), path)][0]
            assert expected == option(options, path), (place, path)


@given(layer=LAYERS)
def test_a_mapping_a_file_and_the_environment_are_equivalent(
    layer: dict[Names, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The same options in each of the three forms make the same settings."""
    path = tmp_path_factory.getbasetemp() / "forebay.toml"
    path.write_text(as_toml(layer))

    expected = Settings.from_mapping(as_mapping(layer))
    assert expected == Settings.from_toml(path)
    assert expected == Settings.from_env(as_variables(layer))
    assert expected == Settings.from_env({}, base=expected)
