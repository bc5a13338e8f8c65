"""Ports for servers that a test starts in a process of its own."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

_PORTS = range(20_000, 32_768)
"""Below the ports that Linux gives to clients, and to servers that ask for any port.

A port from there could be taken before the server of the test listens at it.
"""


def free_port() -> int:
    """Return a port of this machine at which nothing listens."""
    while True:
        port = random.SystemRandom().choice(_PORTS)  # Hypothesis sets the seed of the other one
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def free_ports(count: int) -> list[int]:
    """Return different ports at which nothing listens."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return list(ports)
