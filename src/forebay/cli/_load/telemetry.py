"""Telemetry of the command itself, if the environment configures it."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager


@asynccontextmanager
async def telemetry_as_configured(
    service_name: str, warn: Callable[[str], None]
) -> AsyncGenerator[None, None]:
    """Export telemetry during the block, if `OTEL_EXPORTER_OTLP_ENDPOINT` is set.

    If telemetry cannot be exported, `warn` is called with the reason, and the block runs without.
    """
    async with AsyncExitStack() as stack:
        if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
            try:
                # An optional package, and slow to import.
                from forebay.otlp import export_telemetry  # noqa: PLC0415  # see above

                exporting = export_telemetry(service_name=service_name)
                await stack.enter_async_context(exporting)
            except (ImportError, RuntimeError, ValueError) as error:
                warn(f"telemetry is not exported: {error}")
        yield
