"""The log records of forebay, without those of other libraries."""

from __future__ import annotations

import logging

import pytest


def own_records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return the records of forebay's loggers.

    A thread of another library, such as one that exports metrics, may log at any time.
    """
    return [record for record in caplog.records if record.name.partition(".")[0] == "forebay"]
