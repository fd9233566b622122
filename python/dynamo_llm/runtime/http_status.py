# SPDX-License-Identifier: Apache-2.0
"""Maps HTTP statuses to the library's errors, and the reverse."""

import re
from typing import NamedTuple

from dynamo_llm.errors import (
    CancelledError,
    ClosedError,
    ContextLengthError,
    DeadlineExceededError,
    DynamoError,
    EngineFailedError,
    InvalidArgumentError,
    InvalidJsonError,
    InvalidRequestError,
    ModelNotFoundError,
    NotSupportedError,
    OutOfMemoryError,
    OverloadedError,
    SlowConsumerError,
    SystemFailedError,
    UnavailableError,
)

#: Servers report only in words that a prompt is too long: OpenAI, vLLM, SGLang, TensorRT-LLM, Dynamo,
#: llama.cpp.
_too_long = re.compile(
    r"context[ _]?(length|window|size)|(model|sequence|input|prompt)[ _]len(gth)?\b|prompt is too long|"
    r"too many (input )?tokens|longer than the (maximum )?model",
    re.IGNORECASE,
)


class _Row(NamedTuple):
    kind: type[DynamoError]
    """An error."""
    answer: int
    """The status with which this library's server reports it."""
    read: tuple[int, ...] = ()
    """The statuses with which other servers report it."""


_rows = (
    _Row(CancelledError, 499, (499,)),
    _Row(ClosedError, 503),
    _Row(ContextLengthError, 400),
    _Row(DeadlineExceededError, 504, (408, 504)),
    _Row(EngineFailedError, 500, (401, 403)),
    _Row(InvalidArgumentError, 400),
    _Row(InvalidJsonError, 400),
    _Row(InvalidRequestError, 400),
    _Row(ModelNotFoundError, 404, (404,)),
    _Row(NotSupportedError, 501, (501,)),
    _Row(OutOfMemoryError, 503),
    _Row(OverloadedError, 429, (429, 529)),
    _Row(SlowConsumerError, 503),
    _Row(SystemFailedError, 503),
    _Row(UnavailableError, 503),
)
_kinds = {status: row.kind for row in _rows for status in row.read}
_answers = {row.kind: row.answer for row in _rows}


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


def http_status_of(error: DynamoError) -> int:
    """Returns the HTTP status with which a server reports an error; 500 for those that no client can cause or
    avoid.
    """
    return _answers.get(type(error), 500)
