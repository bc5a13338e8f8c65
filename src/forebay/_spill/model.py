"""The contents and the format of a spill file.

Each line is one JSON value. The first line has the version of the format, the id of the spill and
the database of its entries. Then follows, per table, a line with the declaration and the number of
entries, and a line per entry. Executed in this order, the entries have the effect of the accepted
ones:

    {"forebay_spill": 1, "id": "5f…", "written_at": 1760000000.0, "reason": "…",
     "database": {"path": "/srv/site.db", "id": "a1…"}, "tables": 1}
    {"table": {"name": "hits", …}, "entries": 2}
    {"write": {"url": "/", "count": 1}}
    {"delete": {"url": "/old"}}

The first line has no database, or null, if the store has no file or if an early version of forebay
wrote the spill. Such a spill may be replayed into any database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from forebay._database import Database
from forebay._table.operations import Operation
from forebay._table.table import Table

MARK: Final = '{"forebay_spill": '
"""The text at the start of every spill file, before the version of its format."""

PART: Final = ".part"
"""The suffix of a file that is being written, or was when its program was killed."""


@dataclass(frozen=True)
class Spill:
    """The contents of a spill file.

    Attributes:
        id: the unique id of the spill, which copies of the file share.
        written_at: when it was written, in seconds since 1970, UTC.
        reason: why its entries were not committed.
        unsettled: the entries by table. Executed in this order, they have the effect of the
            accepted ones.
        database: the database of the entries; None if the file does not name one.
    """

    id: str
    written_at: float
    reason: str
    unsettled: Mapping[Table[Any], Sequence[Operation]] = field(repr=False)
    database: Database | None = None

    @property
    def entries(self) -> int:
        """The number of entries."""
        return sum(map(len, self.unsettled.values()))
