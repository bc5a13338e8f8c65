"""What a failed request means for the rows that it sent, by ClickHouse's error code.

The HTTP status does not tell: a refused row and a server with too many parts are both 500.
The codes: `SELECT * FROM system.errors`, or ErrorCodes.cpp in ClickHouse's source.
"""

from __future__ import annotations

import enum
import re
from typing import Final

from forebay._portable import Portable


class Meaning(enum.Enum):
    """The meanings of a failed INSERT."""

    IN_DOUBT = "in doubt"
    """The rows may be in the table. To send the same bytes with the same token again is safe."""
    TRANSIENT = "transient"
    """No row is in the table, and a retry may succeed."""
    OVERLOADED = "overloaded"
    """The server has too much to do. Retry after a longer time."""
    BLOCKED = "blocked"
    """Somebody has to change something: a permission, a table, the program."""
    ROW = "row"
    """The server refused a row."""
    TYPES = "types"
    """A column has another type than its values were encoded for. No row is in the table."""


_MEANINGS: Final = {
    159: Meaning.TRANSIENT,  # TIMEOUT_EXCEEDED
    202: Meaning.TRANSIENT,  # TOO_MANY_SIMULTANEOUS_QUERIES
    203: Meaning.TRANSIENT,  # NO_FREE_CONNECTION
    209: Meaning.TRANSIENT,  # SOCKET_TIMEOUT
    210: Meaning.TRANSIENT,  # NETWORK_ERROR
    225: Meaning.TRANSIENT,  # NO_ZOOKEEPER
    236: Meaning.TRANSIENT,  # ABORTED
    241: Meaning.TRANSIENT,  # MEMORY_LIMIT_EXCEEDED
    242: Meaning.TRANSIENT,  # TABLE_IS_READ_ONLY
    243: Meaning.TRANSIENT,  # NOT_ENOUGH_SPACE
    279: Meaning.TRANSIENT,  # ALL_CONNECTION_TRIES_FAILED
    285: Meaning.TRANSIENT,  # TOO_FEW_LIVE_REPLICAS
    319: Meaning.IN_DOUBT,  # UNKNOWN_STATUS_OF_INSERT
    394: Meaning.TRANSIENT,  # QUERY_WAS_CANCELLED
    473: Meaning.TRANSIENT,  # DEADLOCK_AVOIDED
    999: Meaning.TRANSIENT,  # KEEPER_EXCEPTION
    252: Meaning.OVERLOADED,  # TOO_MANY_PARTS
    53: Meaning.TYPES,  # TYPE_MISMATCH
    27: Meaning.ROW,  # CANNOT_PARSE_INPUT_ASSERTION_FAILED
    69: Meaning.ROW,  # ARGUMENT_OUT_OF_BOUND
    131: Meaning.ROW,  # TOO_LARGE_STRING_SIZE
    349: Meaning.ROW,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
    469: Meaning.ROW,  # VIOLATED_CONSTRAINT
    691: Meaning.ROW,  # UNKNOWN_ELEMENT_OF_ENUM
}
"""The meanings by code. Every other code blocks the table: nothing is lost, and somebody looks."""


UNKNOWN_DATABASE: Final = 81

_LOG_IN: Final = (
    "to log in, pass user= and one of password=, password_file= and the environment variable "
    "FOREBAY_CLICKHOUSE_PASSWORD, or --user and --password-file to `forebay spool retry`"
)
_ADVICE: Final = {
    192: _LOG_IN,  # UNKNOWN_USER
    193: _LOG_IN,  # WRONG_PASSWORD
    516: _LOG_IN,  # AUTHENTICATION_FAILED
}
"""What to do, by code, where the server's own text does not say it."""

_NAME: Final = re.compile(r"\(([A-Z][A-Z0-9_]+)\)(?: \(version.*)?\s*$")


class ServerError(Portable, Exception):
    """ClickHouse answered a request with an error.

    Attributes:
        code: ClickHouse's number of the error.
        summary: its number, its name and what to do, without the values of rows, for logs.
    """

    def __init__(self, code: int, message: str) -> None:
        advice = f"; {_ADVICE[code]}" if code in _ADVICE else ""
        super().__init__(f"{message or f'Code: {code}'}{advice}")
        self.code = code
        name = _NAME.search(message)
        self.summary = (f"code {code}" if name is None else f"code {code} ({name[1]})") + advice

    @property
    def meaning(self) -> Meaning:
        """What the error means for the rows of an INSERT."""
        return _MEANINGS.get(self.code, Meaning.BLOCKED)


class NoAnswerError(Portable, Exception):
    """ClickHouse did not answer.

    Attributes:
        code: a name of the failure for metrics, such as `ConnectError`.
        summary: its text, without what answered instead of ClickHouse, for logs.
        was_sent: whether a part of the request was sent, so that it may have been executed.

    Args:
        code: see above.
        message: the text of the failure.
        was_sent: see above.
        answered: whether the message is what answered instead of ClickHouse. It may contain rows.
    """

    def __init__(
        self, code: str, message: str, *, was_sent: bool = True, answered: bool = False
    ) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.was_sent = was_sent
        self.summary: str = f"{code}: not an answer of ClickHouse" if answered else str(self)

    @property
    def meaning(self) -> Meaning:
        """What the error means for the rows of an INSERT."""
        return Meaning.IN_DOUBT if self.was_sent else Meaning.TRANSIENT
