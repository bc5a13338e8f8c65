"""Names of objects: each key has its own, and every S3 server accepts it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.cache.object_names import object_key, object_name
from tests.cache.tools import ODD_TEXTS

SEGMENTS = st.text(min_size=0, max_size=4) | st.sampled_from(["", ".", "..", "...", "!", "!!", "a"])
KEYS = st.one_of(
    st.lists(SEGMENTS, min_size=1, max_size=5).map("/".join),
    st.lists(st.sampled_from(["a" * 254, "é", "!", "b", "/"]), min_size=1, max_size=6).map("".join),
).filter(bool)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("acme/app/cas/1f-2_3.o", "acme/app/cas/1f-2_3.o"),
        ("a b%!", "a!20b!25!21"),
        ("nul\0", "nul!00"),
        ("é", "!C3!A9"),
        ("/a", "!/a"),
        ("a//b", "a/!/b"),
        ("a/", "a/!"),
        ("/", "!/!"),
        ("a/../b/.", "a/!2E!2E/b/!2E"),
        ("a/..b/...", "a/..b/..."),
        ("a" * 255, "a" * 255),
        ("a" * 256, "a" * 254 + "!/aa"),
        ("a" * 253 + "é", "a" * 253 + "!/!C3!A9"),
        ("a" * 600 + "/b", "a" * 254 + "!/" + "a" * 254 + "!/" + "a" * 92 + "/b"),
    ],
)
def test_the_name_of_a_key(key: str, name: str) -> None:
    """An ordinary key is its own name; what some server refuses is escaped."""
    assert name == object_name(key)
    assert key == object_key(name)


@given(KEYS)
def test_a_name_is_accepted_everywhere_and_gives_its_key_back(key: str) -> None:
    """Only safe characters, no segment that a file system refuses, and no two keys alike."""
    name = object_name(key)
    assert re.fullmatch(r"[A-Za-z0-9/._!-]{1,1024}", name)
    segments = name.split("/")
    assert not {"", ".", ".."} & set(segments)
    assert max(map(len, segments)) <= 255
    if name.startswith("!!/"):
        assert object_key(name) is None
    else:
        assert key == object_key(name)


def test_long_keys_have_the_names_of_their_hashes() -> None:
    """S3 accepts 1,024 bytes; the limit is that of the name, not of the key."""
    longest = "/".join(["a" * 255] * 4)
    assert longest == object_name(longest)
    for key in (f"{longest}b", "é" * 200, "x" * 5_000):
        assert re.fullmatch("!!/[0-9a-f]{64}", object_name(key))
    assert object_name("x" * 5_000) != object_name("x" * 5_001)


def test_odd_texts_have_different_names() -> None:
    """Also those that differ only in what is escaped."""
    keys = [f"acme/app/{text}{end}" for text in ODD_TEXTS for end in ("", "/", "!")]
    assert len(keys) == len({object_name(key) for key in keys})


@pytest.mark.parametrize(
    "name", ["", "a//b", "/a", "..", "a b", "!zz", "!41", "!C3", "a!/b", "!!/12", "é", "\\x41"]
)
def test_other_names_are_refused(name: str) -> None:
    """A bucket may have objects of other programs."""
    with pytest.raises(ValueError, match="name"):
        object_key(name)
