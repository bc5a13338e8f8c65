"""Reports the delivery of a store's rows to OpenTelemetry, for a store that has a spool."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Concatenate, ParamSpec

from forebay._telemetry.attributes import encodable
from forebay._telemetry.instruments import Instruments
from forebay.stores import Store

P = ParamSpec("P")

_logger = logging.getLogger(__name__)


def _logs_errors(
    method: Callable[Concatenate[DeliveryTelemetry, P], None],
) -> Callable[Concatenate[DeliveryTelemetry, P], None]:
    """Wrap a method so that it logs an exception instead of raising it."""

    @functools.wraps(method)
    def call(self: DeliveryTelemetry, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception:  # providers are the program's: any error is possible
            _logger.exception("telemetry of deliveries failed; the deliveries go on")

    return call


@dataclass(frozen=True)
class DeliveryTelemetry:
    """Reports the deliveries of one store to the instruments of one meter.

    Two of them are equal if they report to the same instruments, so that a store to which several
    groups of buffers belong reports each delivery once.
    """

    instruments: Instruments
    store: Store = field(compare=False)

    @_logs_errors
    def requested(self, table: str, *, duration: float, code: str | None, answered: bool) -> None:
        """Report one INSERT: see `forebay.stores.DeliveryObserver`."""
        attributes = {
            name: encodable(value) for name, value in self.store.delivery_attributes.items()
        }
        attributes |= {"db.collection.name": table, "db.operation.name": "BATCH INSERT"}
        if code is not None:
            attributes["error.type"] = code
            self.instruments.delivery_retries.add(1, {"buffer": table, "error.type": code})
            if answered:
                attributes["db.response.status_code"] = code
        self.instruments.operation_duration.record(duration, attributes)

    @_logs_errors
    def delivered(self, table: str, *, age: float) -> None:
        """Report one delivered block: see `forebay.stores.DeliveryObserver`."""
        self.instruments.delivery_duration.record(age, {"buffer": table})
