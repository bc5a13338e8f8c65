"""What the commands print cannot control a terminal."""

from __future__ import annotations

import json

import pytest

from forebay.cli._output import echo, print_columns, print_json, print_wrapped, printable

HOSTILE = "a\x1b[31m\x07\x7f\x9b\u202e\u2028\ud800\U000e0001b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("é ü \u3000 日本", "é ü \u3000 日本"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\x9b\u202e\udcff", r"\x9b\u202e\udcff"),
    ],
)
def test_control_characters_are_escaped(text: str, expected: str) -> None:
    """Letters, signs and spaces of any script stay."""
    assert expected == printable(text)


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return captured.out + captured.err


@pytest.mark.parametrize("err", [False, True])
def test_text_keeps_its_line_breaks_alone(err: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """`echo` escapes the rest, colours that it was asked for aside."""
    echo(f"{HOSTILE}\n{HOSTILE}", err=err)
    first, second, end = printed(capsys).split("\n")
    assert first == second
    assert first.isprintable()
    assert "" == end


def test_json_is_escaped_and_stays_the_same_document(capsys: pytest.CaptureFixture[str]) -> None:
    """Escapes are those of JSON, and the line breaks between members stay."""
    document = {HOSTILE: [HOSTILE, "é\u3000\U0001f600"]}
    print_json(document)
    text = printed(capsys)
    assert all(c.isprintable() or c in "\n\u3000" for c in text)
    assert "\U0001f600" in text
    assert document == json.loads(text)


def test_columns_and_labels_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    """Cells stay on their lines, and wrapped texts within their margins."""
    print_columns(("head",), [(f"{HOSTILE}\nx",), (12_345,)])
    print_wrapped("label", HOSTILE, indent=10)
    lines = printed(capsys).split("\n")
    assert all(line.isprintable() for line in lines)
    assert ["head", f"{printable(HOSTILE)}\\nx", "12,345"] == [line.strip() for line in lines[:3]]
