# SPDX-License-Identifier: Apache-2.0
"""What a worker raises for an error of the library, so that Dynamo's clients and frontend know what it is.

Some of Dynamo's exceptions make a client put the worker aside for some seconds: EngineShutdown,
StreamIncomplete, WorkerUnavailable, and HttpError with 408 or 504. One bad request must not do that; only a
worker that ends may.
"""

from dynamo_llm.errors import (
    CancelledError,
    ClosedError,
    ContextLengthError,
    DeadlineExceededError,
    DynamoError,
    InvalidArgumentError,
    InvalidJsonError,
    InvalidRequestError,
    ModelNotFoundError,
    NotSupportedError,
    OverloadedError,
    SlowConsumerError,
    UnavailableError,
)

#: Names in dynamo.llm.exceptions, or a status of HTTP. Others are Unknown: an internal error.
table: dict[type[DynamoError], str | int] = {
    InvalidRequestError: "InvalidArgument",
    InvalidArgumentError: "InvalidArgument",
    InvalidJsonError: "InvalidArgument",
    ContextLengthError: "InvalidArgument",
    NotSupportedError: "InvalidArgument",
    ModelNotFoundError: 404,
    OverloadedError: 429,
    UnavailableError: 503,
    SlowConsumerError: 503,
    DeadlineExceededError: "ConnectionTimeout",
    CancelledError: "Cancelled",
    ClosedError: "EngineShutdown",
}


def to_dynamo_error(error: Exception) -> Exception:
    """The exception that Dynamo is to get."""
    from dynamo.llm import exceptions

    known = next((found for kind, found in table.items() if isinstance(error, kind)), "Unknown")
    text = str(error) or type(error).__name__
    if isinstance(known, int):
        return exceptions.HttpError(known, text)
    made: Exception = getattr(exceptions, known)(text)
    return made
