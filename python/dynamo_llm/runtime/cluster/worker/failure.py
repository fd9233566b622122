# SPDX-License-Identifier: Apache-2.0
"""How a worker reports the failure of a request to Dynamo's clients and frontend, without output on stderr.

An invalid request must not make clients exclude the worker; only a shutdown may.
"""

from typing import Any, Literal

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

Kind = Literal[
    "InvalidRequest",
    "NotFound",
    "PayloadTooLarge",
    "RateLimited",
    "CapacityExhausted",
    "Unavailable",
    "DeadlineExceeded",
    "Cancelled",
    "Internal",
    "EngineShutdown",
]
"""The beginning of the message that the client gets, except that EngineShutdown becomes "Unavailable", and
InvalidRequest is reported by Dynamo's exception InvalidArgument with the bare message."""

#: Dynamo's errors for these, where their names differ. Only EngineShutdown makes clients exclude the worker
#: for some seconds, and migrate requests if they may. CannotConnect, Disconnected, WorkerUnavailable,
#: DeadlineExceeded, and timeouts other than the backend's would do so, too.
_errors: dict[str, str | dict[str, str]] = {
    "InvalidRequest": "InvalidArgument",
    "CapacityExhausted": "ResourceExhausted",
    "DeadlineExceeded": {"Backend": "ConnectionTimeout"},
    "Internal": "Unknown",
    "EngineShutdown": {"Backend": "EngineShutdown"},
}
#: Their messages also reach the frontend's callers; without "public" Dynamo replaces them.
_public = ("InvalidRequest",)

#: All other errors are internal. No status requires an exception, whose traceback Dynamo would print.
_kinds: dict[type[DynamoError], Kind] = {
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
    """Returns the item that ends the stream of a request with an error of the library."""
    internal: Kind = "Internal"
    kind = next((found for one, found in _kinds.items() if isinstance(error, one)), internal)
    return failure(kind, str(error) or type(error).__name__)


def failure(kind: Kind, message: str) -> dict[str, Any]:
    """Returns the item that a handler ends its stream with instead of raising an exception.

    Dynamo also passes exceptions of handlers on, but prints their traceback to ``sys.stderr`` first.
    """
    error: dict[str, Any] = {"error_type": _errors.get(kind, kind), "message": message}
    if kind in _public:
        error["public"] = {"type": "message", "message": message}
    return {"_dynamo_annotated": True, "event": "error", "error": error}
