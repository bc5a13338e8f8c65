"""Reports the delivery of a store's rows to OpenTelemetry, for a store that has a spool."""

from __future__ import annotations

from dataclasses import dataclass, field

from forebay._telemetry.attributes import encodable
from forebay._telemetry.guard import logs_errors
from forebay._telemetry.instruments import Instruments
from forebay.stores import Store


@dataclass(frozen=True)
class DeliveryTelemetry:
    """Reports the deliveries of one store to the instruments of one meter.

    Two of them are equal if they report to the same instruments, so that a store to which several
    groups of buffers belong reports each delivery once.
    """

    instruments: Instruments
    store: Store = field(compare=False)

    name = "deliveries"

    @logs_errors
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

    @logs_errors
    def delivered(self, table: str, *, age: float) -> None:
        """Report one delivered block: see `forebay.stores.DeliveryObserver`."""
        self.instruments.delivery_duration.record(age, {"buffer": table})
