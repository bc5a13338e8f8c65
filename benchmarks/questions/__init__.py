"""The questions, a module each: `cases(full=…)` gives the question with its parameters set.

With `full` a question takes as long as it needs; without, its part of less than ten minutes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping

from benchmarks.harness import Case
from benchmarks.questions import (
    batch_size,
    busy_loop,
    capacity,
    cost_of_a_call,
    durable_writes,
    enqueue_to_commit,
    flush_interval,
    libraries,
    overload,
    page_cache,
    producers,
    row_shapes,
    saturation,
    table_growth,
    tables,
    telemetry,
    telemetry_of_a_flush,
    two_processes,
)

_MODULES = (
    enqueue_to_commit,
    libraries,
    row_shapes,
    durable_writes,
    busy_loop,
    saturation,
    cost_of_a_call,
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
    overload,
)

QUESTIONS: Mapping[str, Callable[[bool], Iterator[Case]]] = {
    module.__name__.rpartition(".")[2]: module.cases for module in _MODULES
}
"""What gives the cases of each question, by its name."""


def docstring(question: str) -> str:
    """Give what a question says of itself."""
    return inspect.cleandoc(str(inspect.getmodule(QUESTIONS[question]).__doc__))


MAIN = (
    "enqueue_to_commit", "libraries", "durable_writes", "busy_loop", "saturation", "telemetry",
    "tables", "producers", "overload",
)  # fmt: skip
"""The questions of a run that is to be over soon."""
