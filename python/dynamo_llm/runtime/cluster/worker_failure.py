# SPDX-License-Identifier: Apache-2.0
"""What an error of the library is to Dynamo's clients and frontend.

One bad request must not make a client put the worker aside; only a worker that ends may.
"""

from typing import Any

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
from dynamo_llm.runtime.cluster.failure import Kind, failure

#: Others are internal errors. No status needs an exception, whose traceback Dynamo would print.
table: dict[type[DynamoError], Kind] = {
    InvalidRequestError: "InvalidRequest",
    InvalidArgumentError: "InvalidRequest",
    InvalidJsonError: "InvalidRequest",
    ContextLengthError: "InvalidRequest",
    NotSupportedError: "InvalidRequest",
    ModelNotFoundError: "NotFound",
    OverloadedError: "RateLimited",
    UnavailableError: "Unavailable",
    SlowConsumerError: "Unavailable",
    DeadlineExceededError: "DeadlineExceeded",
    CancelledError: "Cancelled",
    ClosedError: "EngineShutdown",
}


def failure_of(error: Exception) -> dict[str, Any]:
    """The item that ends the stream."""
    internal: Kind = "Internal"
    kind = next((found for one, found in table.items() if isinstance(error, one)), internal)
    return failure(kind, str(error) or type(error).__name__)
