"""Telemetry of the command itself, where the environment asks for it."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager


@asynccontextmanager
async def telemetry_as_configured(
    service_name: str, warn: Callable[[str], None]
) -> AsyncGenerator[None, None]:
    """Export telemetry meanwhile, if `OTEL_EXPORTER_OTLP_ENDPOINT` is set.

    Where that cannot be, it says why, and nothing else happens: rows matter more.
    """
    async with AsyncExitStack() as stack:
        if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
            try:
                from forebay.otlp import export_telemetry  # noqa: PLC0415 - an extra, and slow

                exporting = export_telemetry(service_name=service_name)
                await stack.enter_async_context(exporting)
            except (ImportError, RuntimeError, ValueError) as error:
                warn(f"telemetry is not exported: {error}")
        yield
