# SPDX-License-Identifier: Apache-2.0
"""Errors as OpenAI's servers report them."""

from typing import Any

from dynamo_llm.errors import ContextLengthError, DynamoError, ModelNotFoundError, OverloadedError
from dynamo_llm.runtime.http_status import http_status_of

#: OpenAI's codes, where it has one; the others are the names of the library's statuses.
_codes: dict[type[DynamoError], str] = {
    ContextLengthError: "context_length_exceeded",
    ModelNotFoundError: "model_not_found",
    OverloadedError: "rate_limit_exceeded",
}
_types = {
    408: "timeout",
    429: "rate_limit_error",
    501: "invalid_request_error",
    503: "service_unavailable",
    504: "timeout",
}


def error_object(status: int, message: str, code: str | None = None) -> dict[str, Any]:
    """Returns the object that OpenAI's servers send as ``error`` with an HTTP status."""
    kind = _types.get(status) or ("invalid_request_error" if status < 500 else "server_error")
    return {"message": message, "type": kind, "param": None, "code": code}


def error_object_of(error: DynamoError) -> dict[str, Any]:
    """Returns that object for an error of the library; :func:`http_status_of` has its status."""
    code = _codes.get(type(error)) or error.status_name.removeprefix("DYNAMO_ERROR_").lower()
    return error_object(http_status_of(error), error.message, code)
