# SPDX-License-Identifier: Apache-2.0
"""Maps HTTP statuses to the library's errors, and errors to what an OpenAI server would send."""

import re
from typing import Any

from dynamo_llm.errors import (
    CancelledError,
    ContextLengthError,
    DeadlineExceededError,
    DynamoError,
    EngineFailedError,
    InvalidRequestError,
    ModelNotFoundError,
    NotSupportedError,
    OverloadedError,
    UnavailableError,
)

#: Servers report only in words that a prompt is too long: OpenAI, vLLM, SGLang, TensorRT-LLM, Dynamo,
#: llama.cpp.
_too_long = re.compile(
    r"context[ _]?(length|window|size)|(model|sequence|input|prompt)[ _]len(gth)?\b|prompt is too long|"
    r"too many (input )?tokens|longer than the (maximum )?model",
    re.IGNORECASE,
)

_kinds: dict[int, type[DynamoError]] = {
    401: EngineFailedError,
    403: EngineFailedError,
    404: ModelNotFoundError,
    408: DeadlineExceededError,
    429: OverloadedError,
    499: CancelledError,
    501: NotSupportedError,
    504: DeadlineExceededError,
    529: OverloadedError,
}


def error_of_http(status: int, message: str) -> DynamoError:
    """Returns the error for an HTTP status.

    :param status: 400 or above; other statuses become :class:`EngineFailedError`.
    :param message: the error's message; its words tell whether the prompt was too long.
    """
    kind = _kinds.get(status)
    if kind is None and status >= 500:
        kind = UnavailableError
    elif kind is None and status >= 400:
        kind = ContextLengthError if _too_long.search(message) else InvalidRequestError
    return (kind or EngineFailedError)(message)


#: The status, the type, and the code that OpenAI's server has for the library's errors. Any other is
#: the server's fault.
_answers: dict[str, tuple[int, str, str | None]] = {
    "DYNAMO_ERROR_INVALID_ARGUMENT": (400, "invalid_request_error", None),
    "DYNAMO_ERROR_INVALID_JSON": (400, "invalid_request_error", None),
    "DYNAMO_ERROR_INVALID_REQUEST": (400, "invalid_request_error", None),
    "DYNAMO_ERROR_CONTEXT_LENGTH": (400, "invalid_request_error", "context_length_exceeded"),
    "DYNAMO_ERROR_MODEL_NOT_FOUND": (404, "invalid_request_error", "model_not_found"),
    "DYNAMO_ERROR_OVERLOADED": (429, "rate_limit_error", "rate_limit_exceeded"),
    "DYNAMO_ERROR_CANCELLED": (499, "server_error", None),
    "DYNAMO_ERROR_NOT_SUPPORTED": (501, "invalid_request_error", None),
    "DYNAMO_ERROR_UNAVAILABLE": (503, "server_error", None),
    "DYNAMO_ERROR_CLOSED": (503, "server_error", None),
    "DYNAMO_ERROR_DEADLINE_EXCEEDED": (504, "server_error", None),
}


def http_of_error(error: DynamoError) -> tuple[int, dict[str, Any]]:
    """Returns an error's HTTP status, and the object that an OpenAI server sends with it as ``error``."""
    status, kind, code = _answers.get(error.status_name, (500, "server_error", None))
    code = code or error.status_name.removeprefix("DYNAMO_ERROR_").lower()
    return status, {"message": error.message, "type": kind, "param": None, "code": code}
