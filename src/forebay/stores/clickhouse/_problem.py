"""Why a table in ClickHouse cannot be used."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a table cannot be used.

    Attributes:
        text: what is wrong, in words that follow the name of the table.
        sql: a statement that corrects it; None if the table must be made anew.
    """

    text: str
    sql: str | None = None
