"""The attributes that name a database, in a form that every exporter accepts."""

from __future__ import annotations

from typing import Final

from forebay.stores import Store

_UNKNOWN: Final = {"db.system.name": "other_sql"}
"""The attributes of a store that does not describe its database."""


def database_attributes(store: Store) -> dict[str, str]:
    """Return OpenTelemetry's attributes of a store's database, such as `db.namespace`."""
    attributes = store.attributes or _UNKNOWN
    return {name: encodable(value) for name, value in attributes.items()}


def encodable(text: str) -> str:
    r"""Return a text with each character that UTF-8 cannot encode escaped.

    Python decodes a path that is not UTF-8 to lone surrogates. OTLP's strings are UTF-8, and one
    string that cannot be encoded would fail the whole export. The byte 0xFF becomes ``\udcff``.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
