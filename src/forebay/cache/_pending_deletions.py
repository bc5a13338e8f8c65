"""`PendingDeletions`: the projects whose objects the transfer worker has to delete."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping


class PendingDeletions:
    """The projects whose objects are to be deleted from the object storage.

    Until the objects of a project are deleted, none of them is uploaded or downloaded: a later
    upload would be deleted as well, and a download would bring an artifact back.
    """

    def __init__(self, prefixes: Mapping[str, str]) -> None:
        """Begin with the deletions that are queued.

        Args:
            prefixes: the id of each queued deletion, and what the keys of its project begin with.
        """
        self._prefixes = dict(prefixes)
        self._requests: Counter[str] = Counter()

    def request(self, prefix: str) -> bool:
        """Count a request to delete a project's objects, and return whether to queue it.

        Args:
            prefix: what the keys of the project begin with: ``account/project/``.
        """
        self._requests[prefix] += 1
        return prefix not in self._prefixes.values()

    def add(self, transfer_id: str, prefix: str) -> None:
        """Note that a deletion is queued."""
        self._prefixes[transfer_id] = prefix

    def __contains__(self, transfer_id: str) -> bool:
        """Return whether a transfer is one of these deletions."""
        return transfer_id in self._prefixes

    def discard(self, transfer_id: str) -> None:
        """Note that a deletion is done, or was removed from the queue."""
        self._prefixes.pop(transfer_id, None)

    def covers(self, key: str) -> bool:
        """Return whether the object of an artifact is to be deleted."""
        return bool(self._prefixes) and _prefix(key) in self._prefixes.values()

    def requests(self, key: str) -> int:
        """Return how often the deletion of an artifact's project was requested since opening."""
        return self._requests[_prefix(key)] if self._requests else 0


def _prefix(key: str) -> str:
    return "/".join([*key.split("/", 2)[:2], ""])
