"""What OpenTelemetry's variables say, and what cannot be used."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from forebay.otlp._variables import GRPC, HTTP, Target, exporters, target

Setter: TypeAlias = Callable[..., None]


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> Setter:
    def set_them(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"OTEL_{name}", value)

    return set_them


def test_without_variables_it_is_otlp_over_grpc() -> None:
    """To the endpoint that the standard names."""
    assert ["otlp"] == list(exporters("METRICS"))
    assert Target(GRPC, "http://localhost:4317") == target("METRICS")


def test_the_variable_of_the_signal_goes_first(variables: Setter) -> None:
    """One that is empty counts as unset."""
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
def test_over_http_the_signal_has_its_path(endpoint: str, expected: str, variables: Setter) -> None:
    """Below the endpoint of all signals; that of one signal is taken as it is."""
    variables(EXPORTER_OTLP_PROTOCOL="http/protobuf", EXPORTER_OTLP_ENDPOINT=endpoint)
    assert Target(HTTP, f"{expected}/v1/metrics") == target("METRICS")
    variables(EXPORTER_OTLP_TRACES_ENDPOINT="http://b:2/")
    assert Target(HTTP, "http://b:2/") == target("TRACES")


def test_several_exporters_are_given_in_order(variables: Setter) -> None:
    """With `none` among them, that one is left out."""
    variables(TRACES_EXPORTER="console, none,otlp")
    assert ["console", "otlp"] == list(exporters("TRACES"))


@pytest.mark.parametrize("value", ["", "false", "False", " true ", "TRUE"])
def test_a_boolean_is_true_or_false(value: str, variables: Setter) -> None:
    """In letters of any case; empty is unset."""
    variables(SDK_DISABLED=value, EXPORTER_OTLP_INSECURE=value)
    disabled = value.strip().lower() == "true"
    assert ([] if disabled else ["otlp"]) == list(exporters("METRICS"))
    assert GRPC == target("METRICS").protocol


def test_times_and_files_that_can_be_used(variables: Setter, tmp_path: Path) -> None:
    """Of the signal first: what it overrides is not looked at."""
    certificate = tmp_path / "ca.pem"
    certificate.touch()
    variables(
        METRIC_EXPORT_TIMEOUT="500",
        EXPORTER_OTLP_TIMEOUT="-1",
        EXPORTER_OTLP_METRICS_TIMEOUT="0.5",
        EXPORTER_OTLP_CERTIFICATE="missing",
        EXPORTER_OTLP_METRICS_CERTIFICATE=str(certificate),
    )
    assert ["otlp"] == list(exporters("METRICS"))
    assert GRPC == target("METRICS").protocol
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
def test_an_endpoint_that_can_be_used(protocol: str, endpoint: str, variables: Setter) -> None:
    """A URL; gRPC takes a host and port as well, and speaks TLS to it."""
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
def test_an_endpoint_that_cannot_be_used(protocol: str, endpoint: str, variables: Setter) -> None:
    """The error has the variable, its value, and what was expected."""
    variables(EXPORTER_OTLP_PROTOCOL=protocol, EXPORTER_OTLP_TRACES_ENDPOINT=endpoint)
    with pytest.raises(ValueError, match="expected a URL, such as http://localhost:431") as caught:
        target("TRACES")
    assert str(caught.value).startswith(f"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT={endpoint!r}")
    assert protocol == target("METRICS").protocol


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
    """Over gRPC there can be none: the exporter would tell it at each attempt."""
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
def test_headers_that_can_be_used(headers: str, variables: Setter) -> None:
    """As the exporters read them."""
    variables(EXPORTER_OTLP_HEADERS=headers)
    assert GRPC == target("METRICS").protocol


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
def test_headers_that_cannot_be_used(header: str, variables: Setter) -> None:
    """They are told by their number alone: the SDK would write them to the log."""
    variables(EXPORTER_OTLP_TRACES_HEADERS=f"good=1,{header}")
    with pytest.raises(
        ValueError, match="OTEL_EXPORTER_OTLP_TRACES_HEADERS: its header 2"
    ) as caught:
        target("TRACES")
    assert "s3" not in str(caught.value)
