# SPDX-License-Identifier: Apache-2.0
"""Maps HTTP statuses to the library's errors."""

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
