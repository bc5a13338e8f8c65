"""The questions, one module each.

To add a question:

1. Write a module here. Its docstring asks the question and says how it is measured; the page of
   all figures quotes it. Its function `cases(full)` yields a `Case` for each set of parameters.
   With `full` it may take as long as it needs; without, all questions of `MAIN` together must take
   some ten minutes.
2. Add the module to `_MODULES`, in the order in which questions run, and its name to `MAIN` if it
   belongs to the short run.
3. Add a `Claim` to `benchmarks/claims.py` if the documentation is to promise the figure.

`enqueue_to_commit` is the smallest example.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping

from benchmarks.harness import Case
from benchmarks.questions import (
    batch_size,
    busy_loop,
    cache_server,
    capacity,
    clickhouse,
    clickhouse_sizing,
    durable_writes,
    enqueue_to_commit,
    flush_interval,
    get,
    latency,
    libraries,
    loader,
    one_call,
    overload,
    page_cache,
    pipeline,
    producers,
    proportion,
    row_by_row,
    row_shapes,
    saturation,
    stages,
    table_growth,
    tables,
    telemetry,
    telemetry_of_a_flush,
    two_processes,
    typed_columns,
)

_MODULES = (
    row_by_row,
    stages,
    one_call,
    latency,
    get,
    enqueue_to_commit,
    pipeline,
    libraries,
    loader,
    row_shapes,
    typed_columns,
    durable_writes,
    busy_loop,
    saturation,
    telemetry,
    telemetry_of_a_flush,
    table_growth,
    tables,
    producers,
    batch_size,
    capacity,
    flush_interval,
    page_cache,
    two_processes,
    proportion,
    overload,
    clickhouse,
    clickhouse_sizing,
    cache_server,
)

QUESTIONS: Mapping[str, Callable[[bool], Iterator[Case]]] = {
    module.__name__.rpartition(".")[2]: module.cases for module in _MODULES
}
"""The function that yields the cases of a question, by the name of the question."""


def docstring(question: str) -> str:
    """Return the docstring of a question."""
    return inspect.cleandoc(str(inspect.getmodule(QUESTIONS[question]).__doc__))


MAIN = (
    "row_by_row", "stages", "one_call", "latency", "enqueue_to_commit", "libraries",
    "durable_writes", "busy_loop", "saturation", "telemetry", "tables", "producers", "overload",
)  # fmt: skip
"""The questions of `nox -s bench`, which takes some ten minutes."""
