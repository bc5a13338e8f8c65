"""The keys and payloads of key-values, as the table has them."""

from __future__ import annotations

import json
from collections.abc import Iterable

from forebay.cache._arguments import checked_iterable, checked_text, checked_utf8


def entry_key(cas_id: str, account: str, project: str) -> str:
    """Return the key of an entry: ``keyvalue:{account}:{project}:{cas_id}``.

    In a handle, a colon is written as ``%3A`` and a percent sign as ``%25``, so that no two
    projects share a key.

    Raises:
        TypeError: an argument is not a str.
        ValueError: an argument is empty or cannot be encoded as UTF-8.
    """
    return entry_prefix(account, project) + checked_text("cas_id", cas_id)


def entry_prefix(account: str, project: str) -> str:
    """Return what the keys of all entries of a project begin with: ``keyvalue:account:project:``.

    Raises:
        TypeError: an argument is not a str.
        ValueError: an argument is empty or cannot be encoded as UTF-8.
    """
    parts = [
        checked_text(argument, handle).replace("%", "%25").replace(":", "%3A")
        for argument, handle in (("account", account), ("project", project))
    ]
    return ":".join(("keyvalue", *parts, ""))


def encoded_values(values: Iterable[str]) -> str:
    """Return a list of values as it is stored: ``{"entries":[{"value":…},…]}``.

    Raises:
        TypeError: a value is not a str, or `values` is a single str.
        ValueError: a value cannot be encoded as UTF-8.
    """
    entries = [
        {"value": checked_utf8("values", value)} for value in checked_iterable("values", values)
    ]
    return json.dumps({"entries": entries}, ensure_ascii=False, separators=(",", ":"))
