"""Whose fault an error of boto3's is: one table, by the error's code and the answer's status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004  # boto3's name
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    TokenRetrievalError,
)

from forebay import ForebayError
from forebay.cache.object_storage import MissingError, RateLimitedError, UnavailableError

_ANSWERS: Final[Mapping[type[ForebayError], frozenset[str | int]]] = {
    RateLimitedError: frozenset(
        {
            429,
            503,
            "BandwidthLimitExceeded",
            "LimitExceededException",
            "RequestLimitExceeded",
            "RequestThrottled",
            "RequestThrottledException",
            "SlowDown",
            "SlowDownRead",
            "SlowDownWrite",
            "ThrottledException",
            "Throttling",
            "ThrottlingException",
            "TooManyRequestsException",
        }
    ),
    MissingError: frozenset({"NoSuchKey"}),
    # What is refused to every object, or to none, until somebody mends it; and what another
    # request, or the way to the server, was in the way of. See `UnavailableError`.
    UnavailableError: frozenset(
        {
            401,
            403,
            407,
            408,
            "AuthorizationHeaderMalformed",
            "ExpiredToken",
            "ExpiredTokenException",
            "InvalidAccessKeyId",
            "InvalidBucketName",
            "InvalidToken",
            "NoSuchBucket",
            "OperationAborted",
            "RequestExpired",
            "RequestTimeTooSkewed",
            "RequestTimeout",
            "RequestTimeoutException",
            "TokenRefreshRequired",
        }
    ),
}
"""The first of these that has the answer's code or its status."""

_SERVER_ERROR = 500
"""From here on, a status that is in no line says that the server does not work."""

# A request that reached no server, or whose answer did not arrive, or that nobody could sign.
# Nor is a parameter that cannot be used the transfer's fault: a key is any text, so it is the
# bucket's name.
_UNANSWERED = (
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    TokenRetrievalError,
    ParamValidationError,
)


def translated(error: ClientError | BotoCoreError) -> Exception:
    """Give an error as an `ObjectStorage` tells it; as it is, where the transfer has failed."""
    if not isinstance(error, ClientError):
        return UnavailableError(str(error)) if isinstance(error, _UNANSWERED) else error
    answer = cast("Mapping[str, Any]", error.response)
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = answer.get("Error", {}).get("Code")
    for kind, told in _ANSWERS.items():
        if code in told or status in told:
            return kind(str(error))
    return UnavailableError(str(error)) if status >= _SERVER_ERROR else error
