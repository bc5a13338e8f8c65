"""OpenTelemetry's variables: their precedence, their defaults, and their invalid values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from forebay.otlp._variables import (
    DEFAULT_ENDPOINTS,
    GRPC,
    HTTP,
    Signal,
    Target,
    exporters,
    target,
)

Setter: TypeAlias = Callable[..., None]


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> Setter:
    def set_them(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"OTEL_{name}", value)

    return set_them


def checked(signal: Signal) -> Target:
    """Return the target of a signal that has one."""
    found = target(signal)
    assert found is not None
    return found


def test_without_variables_there_is_no_target() -> None:
    """Nothing sets an endpoint or an exporter."""
    assert ["otlp"] == exporters("METRICS")
    assert target("METRICS") is None


@pytest.mark.parametrize("protocol", [GRPC, HTTP])
def test_an_exporter_without_an_endpoint_has_the_default_one(
    protocol: str, variables: Setter
) -> None:
    """The variable sets the exporter of one signal, and has no effect on the other."""
    variables(EXPORTER_OTLP_PROTOCOL=protocol, TRACES_EXPORTER="otlp")
    path = "/v1/traces" if protocol == HTTP else ""
    assert Target(protocol, DEFAULT_ENDPOINTS[protocol] + path) == target("TRACES")
    assert target("METRICS") is None


def test_the_variable_of_a_signal_takes_precedence(variables: Setter) -> None:
    """An empty variable counts as unset."""
    variables(
        EXPORTER_OTLP_PROTOCOL="http/protobuf",
        EXPORTER_OTLP_ENDPOINT="http://all:4318",
        EXPORTER_OTLP_METRICS_PROTOCOL="",
        EXPORTER_OTLP_METRICS_ENDPOINT="http://metrics:4318/v1/metrics",
        EXPORTER_OTLP_TRACES_PROTOCOL="grpc",
        EXPORTER_OTLP_TRACES_ENDPOINT=" ",
    )
    assert Target(HTTP, "http://metrics:4318/v1/metrics") == target("METRICS")
    assert Target(GRPC, "http://all:4318") == target("TRACES")


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [("", "http://localhost:4318"), ("http://a:1/otlp/", "http://a:1/otlp")],
)
def test_over_http_a_signal_has_its_path(endpoint: str, expected: str, variables: Setter) -> None:
    """It is appended to the endpoint of all signals, but not to the endpoint of one signal."""
    variables(
        EXPORTER_OTLP_PROTOCOL="http/protobuf",
        EXPORTER_OTLP_ENDPOINT=endpoint,
        METRICS_EXPORTER="otlp",
    )
    assert Target(HTTP, f"{expected}/v1/metrics") == target("METRICS")
    variables(EXPORTER_OTLP_TRACES_ENDPOINT="http://b:2/")
    assert Target(HTTP, "http://b:2/") == target("TRACES")


def test_several_exporters_keep_their_order(variables: Setter) -> None:
    """`none` among them is left out."""
    variables(TRACES_EXPORTER="console, none,otlp")
    assert ["console", "otlp"] == exporters("TRACES")


@pytest.mark.parametrize("value", ["", "false", "False", " true ", "TRUE"])
def test_a_boolean_is_true_or_false(value: str, variables: Setter) -> None:
    """Its case does not matter; an empty variable counts as unset."""
    variables(SDK_DISABLED=value, EXPORTER_OTLP_INSECURE=value, METRICS_EXPORTER="otlp")
    disabled = value.strip().lower() == "true"
    assert ([] if disabled else ["otlp"]) == exporters("METRICS")
    assert GRPC == checked("METRICS").protocol


def test_valid_times_and_files(variables: Setter, tmp_path: Path) -> None:
    """A value that the signal's own variable overrides is not checked."""
    certificate = tmp_path / "ca.pem"
    certificate.touch()
    variables(
        METRICS_EXPORTER="otlp",
        METRIC_EXPORT_TIMEOUT="500",
        EXPORTER_OTLP_TIMEOUT="-1",
        EXPORTER_OTLP_METRICS_TIMEOUT="0.5",
        EXPORTER_OTLP_CERTIFICATE="missing",
        EXPORTER_OTLP_METRICS_CERTIFICATE=str(certificate),
    )
    assert ["otlp"] == exporters("METRICS")
    assert GRPC == checked("METRICS").protocol
    with pytest.raises(ValueError, match="OTEL_EXPORTER_OTLP_TIMEOUT"):
        target("TRACES")


@pytest.mark.parametrize(
    ("protocol", "endpoint"),
    [
        (GRPC, "http://localhost:4317"),
        (GRPC, "https://collector.example.org"),
        (GRPC, "localhost:4317"),
        (HTTP, "http://[::1]:4318"),
        (HTTP, "https://example.org/otlp/"),
        (HTTP, "http://user:password@localhost:4318"),
    ],
)
def test_a_valid_endpoint(protocol: str, endpoint: str, variables: Setter) -> None:
    """It is a URL. gRPC also accepts a host and a port, and uses TLS for them."""
    variables(EXPORTER_OTLP_PROTOCOL=protocol, EXPORTER_OTLP_METRICS_ENDPOINT=endpoint)
    assert Target(protocol, endpoint) == target("METRICS")


@pytest.mark.parametrize(
    ("protocol", "endpoint"),
    [
        (GRPC, "ftp://localhost:4317"),
        (GRPC, "http://"),
        (GRPC, "http://localhost:99999"),
        (HTTP, "localhost:4318"),
        (HTTP, "localhost"),
        (HTTP, "https:/localhost:4318"),
        (HTTP, "http://localhost:http"),
        (HTTP, "http://[::1"),
    ],
)
def test_an_invalid_endpoint(protocol: str, endpoint: str, variables: Setter) -> None:
    """The error has the variable, its value, and an example. The other signal is not affected."""
    variables(
        EXPORTER_OTLP_PROTOCOL=protocol,
        EXPORTER_OTLP_TRACES_ENDPOINT=endpoint,
        METRICS_EXPORTER="otlp",
    )
    with pytest.raises(ValueError, match="expected a URL, such as http://localhost:431") as caught:
        target("TRACES")
    assert str(caught.value).startswith(f"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT={endpoint!r}")
    assert protocol == checked("METRICS").protocol


@pytest.mark.parametrize(
    ("protocol", "endpoint"),
    [
        (GRPC, "http://user:s3cret@localhost:4317"),
        (GRPC, "user:s3cret@localhost"),
        (HTTP, "user:s3cret@localhost"),
        (HTTP, "htp://user:s3cret@localhost:4318"),
    ],
)
def test_a_password_in_an_endpoint_is_not_shown(
    protocol: str, endpoint: str, variables: Setter
) -> None:
    """For gRPC it is invalid, since the exporter would log it at each attempt."""
    variables(EXPORTER_OTLP_PROTOCOL=protocol, EXPORTER_OTLP_ENDPOINT=endpoint)
    with pytest.raises(ValueError, match="OTEL_EXPORTER_OTLP_ENDPOINT") as caught:
        target("METRICS")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "headers",
    [
        "a=b",
        "Authorization=Bearer abc",
        "authorization=Basic%20dXNlcjpwYXNz, x-scope = 1 ,",
        "x-empty=",
        "x-equals=a=b==",
    ],
)
def test_valid_headers(headers: str, variables: Setter) -> None:
    """The syntax is that of the exporters."""
    variables(EXPORTER_OTLP_HEADERS=headers, METRICS_EXPORTER="otlp")
    assert GRPC == checked("METRICS").protocol


@pytest.mark.parametrize(
    "header",
    [
        "s3cret",
        "authorization: Bearer s3cret",
        "my key=s3cret",
        "=s3cret",
        "key=s3crét",
        "key=s3cr%C3%A9t",
        "key=s3cret;",
        'key="s3cret"',
        "key=s3cret%0A",
        "key=%0As3cret",
        "key=s3\ncret",
    ],
)
def test_an_invalid_header(header: str, variables: Setter) -> None:
    """The error has its number, not its text. (The SDK would write the text to the log.)"""
    variables(EXPORTER_OTLP_TRACES_HEADERS=f"good=1,{header}")
    with pytest.raises(ValueError, match="OTEL_EXPORTER_OTLP_TRACES_HEADERS: header 2") as caught:
        target("TRACES")
    assert "s3" not in str(caught.value)
