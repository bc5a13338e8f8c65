"""The settings of the interpreter hold for the time of a load."""

from __future__ import annotations

import gc
import sys

import pytest

from forebay.cli._load.interpreter import tuned


def test_the_settings_end_with_the_block() -> None:
    """An error ends it, too."""
    before = (gc.get_threshold(), sys.getswitchinterval(), gc.get_freeze_count())
    with pytest.raises(OSError, match="disk full"), tuned():
        assert gc.get_threshold()[0] > before[0][0]
        assert sys.getswitchinterval() < before[1]
        raise OSError("disk full")
    assert before == (gc.get_threshold(), sys.getswitchinterval(), gc.get_freeze_count())
