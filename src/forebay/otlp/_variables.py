"""What OpenTelemetry's variables say of one signal, checked before an exporter is made of it.

The exporters check little: a malformed header they write to the log as it is, with what is secret
in it; a malformed endpoint they meet at every export; a time below 0 ends each before it began.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias
from urllib.parse import unquote, urlsplit

Signal: TypeAlias = Literal["METRICS", "TRACES"]

GRPC: Final = "grpc"
HTTP: Final = "http/protobuf"

_ENDPOINTS: Final = {GRPC: "http://localhost:4317", HTTP: "http://localhost:4318"}
"""The standard's, where no variable names another."""

_EXPORTERS: Final = ("otlp", "console", "none")

_HEADER: Final = re.compile(r"[!#-'*+\-.0-9A-Z^-z|~]+[ \t]*=[ !#-+\--:<-\[\]-~\t]*")
"""One header, as the exporters read it; its value may be percent-encoded."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a signal goes by OTLP.

    Attributes:
        protocol: `GRPC` or `HTTP`.
        endpoint: its URL, with the signal's path where the protocol has one; by gRPC it may also
            be a host and port.
    """

    protocol: str
    endpoint: str


def exporters(signal: Signal) -> Iterator[str]:
    """Give the kinds of exporters that are asked for, `otlp` or `console`.

    Raises:
        ValueError: the variable names another one, or one for all exporters cannot be used.
    """
    if _boolean("OTEL_SDK_DISABLED"):
        return
    if signal == "METRICS":
        _check_time("OTEL_METRIC_EXPORT_TIMEOUT")
    variable = f"OTEL_{signal}_EXPORTER"
    names = [name.strip() for name in (os.environ.get(variable) or "otlp").split(",")]
    for name in names:
        if name not in _EXPORTERS:
            raise ValueError(f"{variable}={name!r}: expected otlp, console or none")
        if name != "none":
            yield name


def target(signal: Signal) -> Target:
    """Give the target of a signal's OTLP exporter.

    Raises:
        ValueError: the protocol, the endpoint, or what goes with them, cannot be used.
    """
    protocol = _protocol(signal)
    _check_headers(signal)
    if found := _first(signal, "INSECURE"):
        _boolean(found[0])
    if found := _first(signal, "TIMEOUT"):
        _check_time(found[0])
    for what in ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"):
        if (found := _first(signal, what)) and not os.access(found[1], os.R_OK):
            raise ValueError(f"{found[0]}={found[1]!r}: expected a file that can be read")
    return Target(protocol, _endpoint(signal, protocol))


def _first(signal: Signal, what: str) -> tuple[str, str] | None:
    """Give the variable that counts, and its value: the signal's own goes first, empty is unset."""
    for variable in (f"OTEL_EXPORTER_OTLP_{signal}_{what}", f"OTEL_EXPORTER_OTLP_{what}"):
        if value := os.environ.get(variable, "").strip():
            return variable, value
    return None


def _boolean(variable: str) -> bool:
    value = os.environ.get(variable, "").strip()
    if value.lower() not in ("", "true", "false"):
        raise ValueError(f"{variable}={value!r}: expected true or false")
    return value.lower() == "true"


def _check_time(variable: str) -> None:
    if not (value := os.environ.get(variable, "").strip()):
        return
    with suppress(ValueError):
        if 0 < float(value) < math.inf:
            return
    raise ValueError(f"{variable}={value!r}: expected a number above 0")


def _protocol(signal: Signal) -> str:
    if (found := _first(signal, "PROTOCOL")) is None:
        return GRPC
    variable, value = found
    if value not in (GRPC, HTTP):
        raise ValueError(f"{variable}={value!r}: expected {GRPC} or {HTTP}")
    return value


def _endpoint(signal: Signal, protocol: str) -> str:
    variable, value = _first(signal, "ENDPOINT") or ("", _ENDPOINTS[protocol])
    if protocol == GRPC and "@" in value:  # the exporter would look for a host of that name, aloud
        raise ValueError(f"{variable}: gRPC takes no user in an endpoint; give a header instead")
    if not _is_url(value) and (protocol == HTTP or "://" in value):
        shown = value.rpartition("@")[2]  # without what may be a password
        raise ValueError(f"{variable}={shown!r}: expected a URL, such as {_ENDPOINTS[protocol]}")
    if protocol == HTTP and signal not in variable:  # the signal's own variable has the path
        return f"{value.rstrip('/')}/v1/{signal.lower()}"
    return value


def _is_url(value: str) -> bool:
    try:
        url = urlsplit(value)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:  # no port, or one out of range
        return False


def _check_headers(signal: Signal) -> None:
    if (found := _first(signal, "HEADERS")) is None:
        return
    variable, value = found
    for number, header in enumerate(value.split(","), 1):
        if header.strip() and not _is_header(header.strip()):
            raise ValueError(
                f"{variable}: its header {number} is not name=value, in ASCII or percent-encoded "
                f"(it may be secret, and is not shown)"
            )


def _is_header(header: str) -> bool:
    value = unquote(header.partition("=")[2])
    return bool(_HEADER.fullmatch(header)) and value.isascii() and value.strip(" \t").isprintable()
