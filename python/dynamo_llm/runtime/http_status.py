# SPDX-License-Identifier: Apache-2.0
"""What a status of HTTP is among the library's errors."""

import re

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

# Servers say in words only that a prompt is too long: OpenAI, vLLM, SGLang, TensorRT-LLM, Dynamo, llama.cpp.
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
    """The error for a status of HTTP.

    :param status: from 400 on; others are :class:`EngineFailedError`.
    :param message: what the error says; a prompt that is too long is known by its words.
    """
    kind = _kinds.get(status)
    if kind is None and status >= 500:
        kind = UnavailableError
    elif kind is None and status >= 400:
        kind = ContextLengthError if _too_long.search(message) else InvalidRequestError
    return (kind or EngineFailedError)(message)
