"""Check the engine, the order, the window of tokens and the sharding of a table in ClickHouse."""

from __future__ import annotations

import re
from typing import Any, Final

from forebay._table.table import Table
from forebay.stores.clickhouse._declared import (
    DELETED,
    VERSION,
    CreateOptions,
    Kind,
    kind_of,
)
from forebay.stores.clickhouse._inspection import FoundTable
from forebay.stores.clickhouse._problem import Problem
from forebay.stores.clickhouse._server_types import (
    call_arguments,
    split_arguments,
    unquote_name,
)

_FAMILY: Final = re.compile(r"(?:Replicated|Shared)?(\w*MergeTree)")


def engine_problems(table: Table[Any], part: FoundTable) -> list[Problem]:
    """Return why rows of one key would not meet in a table, or not replace each other."""
    kind = kind_of(table)
    match = _FAMILY.fullmatch(part.engine)
    family = part.engine if match is None else match[1]
    if family != kind.value:
        return [Problem(f"its engine is {part.engine}, but the declaration needs {kind.value}")]
    problems: list[Problem] = []
    if kind is Kind.REPLACE:
        arguments = [unquote_name(text) for text in call_arguments(part.engine_full)]
        if arguments[-2:] != [VERSION, DELETED]:
            problems.append(Problem(f"its engine is not {kind.value}({VERSION}, {DELETED})"))
    if table.key:
        text = part.sorting_key
        if list(split_arguments(text)) == [text] and text.startswith("("):
            text = text[1:-1]  # the server keeps the parentheses around one column
        order = [unquote_name(name) for name in split_arguments(text)]
        if sorted(order) != sorted(table.key):
            problems.append(
                Problem(
                    f"it is ordered by ({part.sorting_key}), but rows of one key "
                    f"({', '.join(table.key)}) only meet if it is ordered by exactly the key"
                )
            )
        outside = [name for name in part.partition_columns if name not in table.key]
        if outside:
            problems.append(
                Problem(
                    f"it is partitioned by {part.partition_key}, but rows of one key only meet if "
                    f"the partition depends on nothing but the key"
                )
            )
    return problems


def window_problems(
    table: Table[Any], part: FoundTable, longest_outage: float, options: CreateOptions
) -> list[Problem]:
    """Return why a table would not recognise a block that is sent again after an outage."""
    if part.window is None:
        return []
    if part.window == 0:
        text = (
            "it remembers no tokens of INSERTs, so a block that is sent again would be there twice"
        )
        return [Problem(text, set_window(part, options))]
    if kind_of(table) is Kind.REPLACE:
        return []  # to write a row again changes nothing
    short = part.window < longest_outage
    if part.window_seconds is not None:
        short = short or part.window_seconds < longest_outage
    if not short:
        return []
    seconds = "" if part.window_seconds is None else f" for {part.window_seconds} s"
    text = (
        f"it remembers the tokens of {part.window} INSERTs{seconds}, which is less than an outage "
        f"of {longest_outage:g} s (longest_outage) with one INSERT of another program per second"
    )
    return [Problem(text, set_window(part, options))]


def set_window(part: FoundTable, options: CreateOptions) -> str:
    """Return the statement that lets a table remember enough tokens."""
    if part.window_seconds is None:
        setting = f"non_replicated_deduplication_window = {options.window}"
    else:
        setting = (
            f"replicated_deduplication_window = {options.window}, "
            f"replicated_deduplication_window_seconds = {options.window_seconds}"
        )
    return f"ALTER TABLE {part.full_name} MODIFY SETTING {setting}"


_NAMES: Final = re.compile(r"`((?:[^`\\]|\\.)+)`|\b([A-Za-z_]\w*)\b(?!\s*\()")
_RANDOM: Final = re.compile(r"\b(?:rand\w*|now\w*|generate\w+|today|yesterday)\s*\(", re.IGNORECASE)


def sharding_problems(table: Table[Any], sharding: str) -> list[Problem]:
    """Return why a Distributed table would split rows of one key, or a block in another way."""
    if _RANDOM.search(sharding):
        return [
            Problem(
                f"its sharding expression {sharding} is random, so a block that is sent again "
                f"would be split in another way, and the shards would drop rows of it"
            )
        ]
    names = {quoted or plain for quoted, plain in _NAMES.findall(sharding)}
    if table.key and (not names or not names <= set(table.key)):
        return [
            Problem(
                f"its sharding expression is {sharding or 'missing'}, but rows of one key only "
                f"meet if it depends on the key and on nothing else"
            )
        ]
    return []
