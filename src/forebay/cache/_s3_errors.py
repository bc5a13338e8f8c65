"""boto3's errors as errors of an `ObjectStorage`, by the error code and the HTTP status."""

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

_RESPONSES: Final[Mapping[type[ForebayError], frozenset[str | int]]] = {
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
    # Errors that every object meets until an operator fixes the cause, and conflicts with other
    # requests or on the way to the server. See `UnavailableError`.
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
"""The codes and statuses of each error. The first error that has the code or the status counts."""

_SERVER_ERROR = 500
"""A status from here on that is not listed above means that the server does not work."""

# Errors of requests that could not be signed, did not reach the server, or were not answered.
# ParamValidationError is among them since any text is a valid key, so the bucket's name is invalid.
_NO_RESPONSE = (
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    TokenRetrievalError,
    ParamValidationError,
)


def translate(error: ClientError | BotoCoreError) -> Exception:
    """Return the error that an `ObjectStorage` raises for an error of boto3.

    Returns:
        An error of `forebay.cache.object_storage`, or `error` itself if the transfer failed.
    """
    if not isinstance(error, ClientError):
        return UnavailableError(str(error)) if isinstance(error, _NO_RESPONSE) else error
    response = cast("Mapping[str, Any]", error.response)
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = response.get("Error", {}).get("Code")
    for kind, values in _RESPONSES.items():
        if code in values or status in values:
            return kind(str(error))
    return UnavailableError(str(error)) if status >= _SERVER_ERROR else error
