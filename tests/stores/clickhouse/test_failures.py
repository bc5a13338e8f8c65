"""What each error code of ClickHouse means for the rows of an INSERT."""

from __future__ import annotations

import pytest

from forebay.stores.clickhouse._failures import Meaning, NoAnswerError, ServerError

MEANINGS = {
    Meaning.IN_DOUBT: (319,),
    Meaning.TRANSIENT: (159, 202, 209, 210, 241, 242, 999),
    Meaning.OVERLOADED: (252,),
    Meaning.ROW: (27, 69, 131, 349, 469, 691),
    Meaning.TYPES: (53,),
    Meaning.BLOCKED: (16, 36, 60, 81, 193, 497, 516, 123_456),
}


@pytest.mark.parametrize(
    ("meaning", "code"), [(meaning, code) for meaning, codes in MEANINGS.items() for code in codes]
)
def test_the_code_decides(meaning: Meaning, code: int) -> None:
    """Not the status or the text. An unknown code blocks the table: nothing is lost."""
    assert meaning is ServerError(code, f"Code: {code}. DB::Exception: (TOO_MANY_PARTS)").meaning


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        (
            "DB::Exception: … values: size = 10. (VIOLATED_CONSTRAINT) (version 26.7.2.1)",
            "code 469 (VIOLATED_CONSTRAINT)",
        ),
        ("Code: 469. DB::Exception: a (b) is 10. (VIOLATED_CONSTRAINT)", None),
        ("no name here", "code 469"),
    ],
)
def test_a_summary_has_no_values(text: str, summary: str | None) -> None:
    """Logs have the number and the name of an error; the spool has its whole text."""
    error = ServerError(469, text)
    assert (summary or "code 469 (VIOLATED_CONSTRAINT)") == error.summary
    assert text == str(error)


def test_a_request_that_was_never_sent_is_not_in_doubt() -> None:
    """Only what may have reached the server may be in the table."""
    assert Meaning.TRANSIENT is NoAnswerError("ConnectError", "refused", was_sent=False).meaning
    assert Meaning.IN_DOUBT is NoAnswerError("ReadError", "").meaning
