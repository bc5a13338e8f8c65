"""Reads OpenTelemetry's environment variables of one signal, and checks them.

The exporters of the SDK check little: they write a malformed header to the log, with its secret;
they report a malformed endpoint at each export; and with a negative timeout each export fails.
"""

from __future__ import annotations

import math
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias
from urllib.parse import unquote, urlsplit

Signal: TypeAlias = Literal["METRICS", "TRACES"]

GRPC: Final = "grpc"
HTTP: Final = "http/protobuf"

DEFAULT_ENDPOINTS: Final = {GRPC: "http://localhost:4317", HTTP: "http://localhost:4318"}
"""OpenTelemetry's default endpoints, by protocol."""

_EXPORTERS: Final = ("otlp", "console", "none")

_HEADER: Final = re.compile(r"[!#-'*+\-.0-9A-Z^-z|~]+[ \t]*=[ !#-+\--:<-\[\]-~\t]*")
"""One header in the syntax of the exporters. Its value may be percent-encoded."""


@dataclass(frozen=True, slots=True)
class Target:
    """The destination of a signal's OTLP exporter.

    Attributes:
        protocol: `GRPC` or `HTTP`.
        endpoint: the URL, with the signal's path for `HTTP`. For `GRPC` it may also be a host and
            a port.
    """

    protocol: str
    endpoint: str


def exporters(signal: Signal) -> list[str]:
    """Return the kinds of a signal's exporters: `otlp` or `console`, or both.

    Raises:
        ValueError: the variable names an unknown exporter, or a variable that applies to all
            exporters has an invalid value.
    """
    if _boolean("OTEL_SDK_DISABLED"):
        return []
    if signal == "METRICS":
        _check_time("OTEL_METRIC_EXPORT_TIMEOUT")
    variable = _exporter_variable(signal)
    names = [name.strip() for name in (_value(variable) or "otlp").split(",")]
    for name in names:
        if name not in _EXPORTERS:
            raise ValueError(f"{variable}={name!r}: expected otlp, console or none")
    return [name for name in names if name != "none"]


def target(signal: Signal) -> Target | None:
    """Return the target of a signal's OTLP exporter.

    Returns:
        The target. None if no variable sets an endpoint or an exporter; the other variables are
        checked nevertheless.

    Raises:
        ValueError: the protocol, the endpoint, or a variable of the exporter has an invalid value.
    """
    protocol = _protocol(signal)
    _check_headers(signal)
    if found := _first(signal, "INSECURE"):
        _boolean(found[0])
    if found := _first(signal, "TIMEOUT"):
        _check_time(found[0])
    for name in ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"):
        if (found := _first(signal, name)) and not os.access(found[1], os.R_OK):
            raise ValueError(f"{found[0]}={found[1]!r}: expected a readable file")
    if _first(signal, "ENDPOINT") is None and not _value(_exporter_variable(signal)):
        return None
    return Target(protocol, _endpoint(signal, protocol))


def _exporter_variable(signal: Signal) -> str:
    return f"OTEL_{signal}_EXPORTER"


def _value(variable: str) -> str:
    """Return the value of a variable; empty if it is unset, as OpenTelemetry defines it."""
    return os.environ.get(variable, "").strip()


def _first(signal: Signal, name: str) -> tuple[str, str] | None:
    """Return the variable of the signal, or else that of all signals, with its value.

    Returns None if neither is set.
    """
    for variable in (f"OTEL_EXPORTER_OTLP_{signal}_{name}", f"OTEL_EXPORTER_OTLP_{name}"):
        if value := _value(variable):
            return variable, value
    return None


def _boolean(variable: str) -> bool:
    value = _value(variable)
    if value.lower() not in ("", "true", "false"):
        raise ValueError(f"{variable}={value!r}: expected true or false")
    return value.lower() == "true"


def _check_time(variable: str) -> None:
    if not (value := _value(variable)):
        return
    with suppress(ValueError):
        if 0 < float(value) < math.inf:
            return
    raise ValueError(f"{variable}={value!r}: expected a number greater than 0")


def _protocol(signal: Signal) -> str:
    if (found := _first(signal, "PROTOCOL")) is None:
        return GRPC
    variable, value = found
    if value not in (GRPC, HTTP):
        raise ValueError(f"{variable}={value!r}: expected {GRPC} or {HTTP}")
    return value


def _endpoint(signal: Signal, protocol: str) -> str:
    variable, value = _first(signal, "ENDPOINT") or ("", DEFAULT_ENDPOINTS[protocol])
    # gRPC would look up `user:password@host` as a host name, and log it.
    if protocol == GRPC and "@" in value:
        raise ValueError(
            f"{variable}: an endpoint for gRPC cannot have a user; pass credentials in "
            f"OTEL_EXPORTER_OTLP_HEADERS"
        )
    if not _is_url(value) and (protocol == HTTP or "://" in value):
        shown = value.rpartition("@")[2]  # without user and password
        raise ValueError(
            f"{variable}={shown!r}: expected a URL, such as {DEFAULT_ENDPOINTS[protocol]}"
        )
    # The variable of a signal has the path already.
    if protocol == HTTP and signal not in variable:
        return f"{value.rstrip('/')}/v1/{signal.lower()}"
    return value


def _is_url(value: str) -> bool:
    try:
        url = urlsplit(value)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:  # the port is not a number, or out of range
        return False


def _check_headers(signal: Signal) -> None:
    if (found := _first(signal, "HEADERS")) is None:
        return
    variable, value = found
    for number, header in enumerate(value.split(","), 1):
        if header.strip() and not _is_header(header.strip()):
            raise ValueError(
                f"{variable}: header {number} is invalid (not shown, since it may be secret); "
                f"expected name=value, in ASCII or percent-encoded"
            )


def _is_header(header: str) -> bool:
    value = unquote(header.partition("=")[2])
    return bool(_HEADER.fullmatch(header)) and value.isascii() and value.strip(" \t").isprintable()
