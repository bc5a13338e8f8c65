"""`export_telemetry`: how it uses OpenTelemetry's variables, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any

import pytest
import trio
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from forebay.otlp import Providers, _metric_exporters, export_telemetry
from tests.log_records import own_records

ALREADY_GLOBAL = (
    "the process already has global providers: pass set_global=False to export_telemetry, and the "
    "providers that it yields to open_buffers"
)


@pytest.fixture
def without_exporters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4317")


async def set_up(**options: Any) -> Providers:
    async with export_telemetry(set_global=False, **options) as providers:
        return providers


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("OTEL_METRICS_EXPORTER", "prometheus", "expected otlp, console or none"),
        ("OTEL_TRACES_EXPORTER", "otlp,zipkin", "expected otlp, console or none"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "expected grpc or http/protobuf"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http", "expected grpc or http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "udp", "expected grpc or http/protobuf"),
    ],
)
async def test_an_invalid_value_is_named_with_its_variable(
    variable: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has the variable, its value, and the values that are expected."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=expected) as caught:
        await set_up()
    assert str(caught.value).startswith(f"{variable}='{value.rpartition(',')[2]}'")


@pytest.mark.usefixtures("endpoint")
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_METRIC_EXPORT_INTERVAL", "-5"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_METRICS_EXEMPLAR_FILTER", "some"),
    ],
)
async def test_an_error_of_the_sdk_names_the_variables(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable is in the message, even if the SDK's own error does not contain it."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=variable):
        await set_up()


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("shutdown_timeout", "5"),
        ("shutdown_timeout", True),
        ("shutdown_timeout", None),
        ("service_name", 3),
    ],
)
async def test_an_argument_of_a_wrong_type_is_an_error(argument: str, value: object) -> None:
    """The error has the argument's name and value."""
    with pytest.raises(TypeError, match=f"{argument} must be .*, not {value!r}"):
        await set_up(**{argument: value})


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("OTEL_SDK_DISABLED", "maybe", "expected true or false"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "perhaps", "expected true or false"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "-1", "expected a number greater than 0"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "-3", "expected a number greater than 0"),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "nan", "expected a number greater than 0"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "missing.pem", "expected a readable file"),
        ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "missing", "expected a readable file"),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "a.pem", "expected a readable file"),
    ],
)
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_values_that_the_sdk_does_not_check_are_checked(
    variable: str, value: str, expected: str, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These are booleans, times and the files of certificates, for both protocols."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=f"^{variable}='{value}': {expected}"):
        await set_up()


@pytest.mark.usefixtures("endpoint")
@pytest.mark.parametrize(
    ("variable", "value"),
    [("OTEL_METRIC_EXPORT_INTERVAL", "-5"), ("OTEL_METRICS_EXEMPLAR_FILTER", "some")],
)
async def test_an_error_of_the_sdk_leaves_no_thread(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The readers and providers that were set up before the error are shut down."""
    before = set(threading.enumerate())
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=variable):
        await set_up()
    started = set(threading.enumerate()) - before
    assert [] == [t.name for t in started if t.name.startswith("Otel")]


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_an_invalid_header_is_not_shown(
    protocol: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A header may be secret: neither the error nor the log contains it."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "a=b,authorization: Bearer s3cret")
    with pytest.raises(ValueError, match="OTEL_EXPORTER_OTLP_HEADERS: header 2") as caught:
        await set_up()
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    ("protocol", "endpoint"),
    [("grpc", "localhost:4317"), ("http/protobuf", "http://localhost:4318/v1/metrics")],
)
def test_the_exporter_otlp_has_a_default_endpoint(
    protocol: str, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is used if a variable sets the exporter. An empty variable counts as unset.

    White box: an exporter has its endpoint in a private attribute.
    """
    for name in ("ENDPOINT", "METRICS_ENDPOINT", "HEADERS"):
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", "")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    [exporter] = _metric_exporters()
    assert endpoint == vars(exporter)["_endpoint"]
    exporter.shutdown()


ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.mark.parametrize(
    ("variables", "warning"),
    [
        ({}, "metrics and spans are not exported"),
        ({ENDPOINT: " ", "OTEL_METRICS_EXPORTER": ""}, "metrics and spans are not exported"),
        ({"OTEL_METRICS_EXPORTER": "none"}, "spans are not exported"),
        ({"OTEL_METRICS_EXPORTER": "console"}, "spans are not exported"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a:1"}, "metrics are not exported"),
        ({ENDPOINT: "http://a:1"}, None),
        ({"OTEL_METRICS_EXPORTER": "otlp", "OTEL_TRACES_EXPORTER": "none"}, None),
        ({"OTEL_SDK_DISABLED": "true"}, None),
    ],
)
async def test_a_signal_without_an_endpoint_is_not_exported(
    variables: dict[str, str],
    warning: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One warning in the log says which signals are not exported and what to set."""
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    with trio.CancelScope() as scope:
        async with export_telemetry(set_global=False):
            found = [record.getMessage() for record in own_records(caplog)]
            levels = {(record.name, record.levelname) for record in own_records(caplog)}
            scope.cancel()
    assert len(found) == (warning is not None)
    assert levels <= {("forebay.otlp", "WARNING")}
    for message in found:
        assert warning is not None
        assert message.startswith(f"{warning}, since no endpoint is configured: set {ENDPOINT}")


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 86_401])
async def test_the_shutdown_timeout_is_checked(seconds: float) -> None:
    """It is more than 0 seconds, and no longer than the SDK can wait."""
    with pytest.raises(ValueError, match=f"shutdown_timeout={seconds}: expected more than 0"):
        await set_up(shutdown_timeout=seconds)


@pytest.mark.usefixtures("without_exporters")
@pytest.mark.parametrize(
    ("variables", "argument", "name"),
    [
        ({}, "mine", "mine"),
        ({"OTEL_SERVICE_NAME": "theirs"}, "mine", "theirs"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=theirs"}, "mine", "theirs"),
        ({"OTEL_SERVICE_NAME": "theirs"}, None, "theirs"),
        ({}, None, "unknown_service"),
    ],
)
async def test_a_variable_for_the_service_name_takes_precedence(
    variables: dict[str, str], argument: str | None, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`service_name` is used if no variable sets the name."""
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    providers = await set_up(service_name=argument)
    assert str(providers.tracer_provider.resource.attributes["service.name"]).startswith(name)


async def test_a_disabled_sdk_exports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `OTEL_SDK_DISABLED=true` no exporter is created, whatever the other variables are."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "nonsense")
    await set_up()


@pytest.mark.usefixtures("without_exporters")
async def test_an_error_of_the_last_export_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not raised, since the program has done its work."""

    def raises(_self: object, timeout_millis: float = 0) -> None:
        raise RuntimeError(timeout_millis)

    monkeypatch.setattr(MeterProvider, "shutdown", raises)
    monkeypatch.setattr(TracerProvider, "shutdown", raises)
    await set_up()
    assert [("forebay.otlp", "ERROR", RuntimeError)] * 2 == [
        (record.name, record.levelname, record.exc_info and record.exc_info[0])
        for record in caplog.records
    ]


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )


def test_the_last_export_contains_what_the_drain_flushed() -> None:
    """It takes place after the drain, and also if the block is cancelled."""
    done = run("""
import os
from typing import NamedTuple
import trio
from forebay import Table, open_buffers
from forebay.otlp import export_telemetry
from forebay.testing import MemoryStore

os.environ.update(OTEL_METRICS_EXPORTER="console", OTEL_TRACES_EXPORTER="console")

class Pair(NamedTuple):
    k: int

async def main():
    pairs = Table(Pair, name="pairs", key="k")
    with trio.CancelScope() as scope:
        exporting = export_telemetry(shutdown_timeout=86_400)
        async with exporting, open_buffers(MemoryStore(), pairs) as b:
            await b[pairs].enqueue_many(Pair(n) for n in range(5))
            scope.cancel()

trio.run(main)
""")
    text, decoder, documents = done.stdout, json.JSONDecoder(), []
    while text := text.lstrip():
        document, end = decoder.raw_decode(text)
        documents.append(document)
        text = text[end:]
    [span] = [document for document in documents if "kind" in document]
    [metrics] = [document for document in documents if "resource_metrics" in document]
    assert ("flush pairs", "drain") == (span["name"], span["attributes"]["flush.reason"])
    shown = metrics["resource_metrics"][0]["scope_metrics"][0]["metrics"]
    [rows] = [metric for metric in shown if metric["name"] == "forebay.rows.flushed"]
    assert [5] == [point["value"] for point in rows["data"]["data_points"]]


def test_the_global_providers_are_set_once() -> None:
    """The first block sets them. A second block must leave them alone with `set_global=False`."""
    done = run("""
import os, trio
os.environ.update(OTEL_METRICS_EXPORTER="none", OTEL_TRACES_EXPORTER="none")
from opentelemetry import metrics, trace
from forebay.otlp import export_telemetry

async def main():
    async with export_telemetry() as providers:
        print(metrics.get_meter_provider() is providers.meter_provider)
        print(trace.get_tracer_provider() is providers.tracer_provider)
    async with export_telemetry(set_global=False):
        print("not global")
    try:
        async with export_telemetry():
            pass
    except RuntimeError as error:
        print(error)

trio.run(main)
""")
    assert ["True", "True", "not global", ALREADY_GLOBAL] == done.stdout.splitlines()


@pytest.mark.parametrize("taken", ["metrics.set_meter_provider", "trace.set_tracer_provider"])
def test_if_one_global_provider_is_set_the_other_is_left_unset(taken: str) -> None:
    """After the error the program can still set the other provider."""
    done = run(f"""
import os, trio
os.environ.update(OTEL_METRICS_EXPORTER="none", OTEL_TRACES_EXPORTER="none")
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from forebay.otlp import export_telemetry

meters, tracers = MeterProvider(), TracerProvider()
{taken}(meters if "meter" in "{taken}" else tracers)

async def main():
    try:
        async with export_telemetry():
            pass
    except RuntimeError as error:
        print(error)
    metrics.set_meter_provider(meters)
    trace.set_tracer_provider(tracers)
    print(metrics.get_meter_provider() is meters, trace.get_tracer_provider() is tracers)

trio.run(main)
""")
    assert [ALREADY_GLOBAL, "True True"] == done.stdout.splitlines()


def test_without_the_sdk_the_import_names_the_extra() -> None:
    """The error has the command that installs it."""
    done = run("import sys; sys.modules['opentelemetry.sdk'] = None; import forebay.otlp")
    assert "ImportError: forebay.otlp needs OpenTelemetry's SDK: pip install 'forebay[otlp]'" in (
        done.stderr
    )


def test_forebay_itself_needs_no_sdk() -> None:
    """Without the SDK `open_buffers` works as it does otherwise."""
    done = run("""
import sys
sys.modules["opentelemetry.sdk"] = None
from typing import NamedTuple
import trio, forebay, forebay.testing

class Pair(NamedTuple):
    k: int

async def main():
    pairs = forebay.Table(Pair, name="pairs", key="k")
    async with forebay.open_buffers(forebay.testing.MemoryStore(), pairs) as buffers:
        await buffers[pairs].write(Pair(1))
        print(buffers[pairs].statistics().committed)

trio.run(main)
""")
    assert ("1\n", "") == (done.stdout, done.stderr)
