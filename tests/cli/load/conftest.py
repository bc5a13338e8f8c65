"""Readers that are closed at the end of a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from forebay.cli._load.options import InputOptions
from forebay.cli._load.readers import Reader

OpenReader = Callable[[list[str], InputOptions], Reader]


@pytest.fixture
def open_reader() -> Iterator[OpenReader]:
    """Return a function that makes a reader, which is closed when the test ends."""
    with ExitStack() as stack:
        yield lambda paths, options: stack.enter_context(closing(Reader(paths, options)))
