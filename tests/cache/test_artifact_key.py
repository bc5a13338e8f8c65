"""`ArtifactKey`: account, project, kind and name, and the key that they make."""

from __future__ import annotations

from typing import Any

import pytest

from forebay.cache import ArtifactKey
from tests.cache.tools import ODD_TEXTS


def test_a_key_has_its_parts() -> None:
    """Only the name may have slashes."""
    name = ArtifactKey("acme", "app", "cas", "ab/cd")
    assert "acme/app/cas/ab/cd" == str(name)
    assert name == ArtifactKey.parse("acme/app/cas/ab/cd")


def test_keys_with_different_parts_differ() -> None:
    """A name of one kind is not that of another."""
    texts = [text for text in ODD_TEXTS if "/" not in text and "\0" not in text]
    names = [ArtifactKey(a, b, "cas", c) for a in texts for b in texts[:3] for c in ODD_TEXTS]
    assert len(names) == len({str(name) for name in names})
    assert names == [ArtifactKey.parse(str(name)) for name in names]


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        (("", "app", "cas", "x"), ValueError),
        (("acme", "", "cas", "x"), ValueError),
        (("acme", "app", "", "x"), ValueError),
        (("acme", "app", "cas", ""), ValueError),
        (("a/b", "app", "cas", "x"), ValueError),
        (("acme", "a/b", "cas", "x"), ValueError),
        (("acme", "app", "c/s", "x"), ValueError),
        (("ac\0me", "app", "cas", "x"), ValueError),
        (("acme", "app\0", "cas", "x"), ValueError),
        (("acme", "app", "\0", "x"), ValueError),
        (("acme", "app", "cas", "\ud800"), ValueError),
        ((1, "app", "cas", "x"), TypeError),
        (("acme", "app", "cas", b"x"), TypeError),
    ],
)
def test_invalid_parts_are_refused(parts: Any, error: type[Exception]) -> None:
    """The error has the name of the part."""
    with pytest.raises(error, match=r"^(account|project|kind|name) "):
        ArtifactKey(*parts)


@pytest.mark.parametrize("key", ["", "a", "a/b/c", "a/b/c/", "/b/c/d", "a//c/d"])
def test_other_keys_have_no_parts(key: str) -> None:
    """They do not have four parts."""
    with pytest.raises(ValueError, match=r"key|account|project|kind|name"):
        ArtifactKey.parse(key)
