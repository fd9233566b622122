# SPDX-License-Identifier: Apache-2.0
"""The library's errors for what Dynamo's calls raise.

Most of Dynamo's exceptions do not cross a process: what its client raises is a ValueError or an Exception
whose message begins with the error's class.
"""

import json
import re
from functools import partial

from dynamo_llm.errors import (
    CancelledError,
    DeadlineExceededError,
    DynamoError,
    EngineFailedError,
    ModelNotFoundError,
    NotSupportedError,
    OverloadedError,
    UnavailableError,
)
from dynamo_llm.runtime.http_status import error_of_http

#: Class at the beginning of a message, and the error; those of a wrong request are told apart by their words.
_classes: dict[str, type[DynamoError] | None] = {
    "Unavailable": UnavailableError,
    "DeadlineExceeded": DeadlineExceededError,
    "Cancelled": CancelledError,
    "RateLimited": OverloadedError,
    "CapacityExhausted": OverloadedError,
    "ResourceExhausted": OverloadedError,
    "NotFound": ModelNotFoundError,
    "NotImplemented": NotSupportedError,
    "InvalidRequest": None,
    "InvalidArgument": None,
    "PayloadTooLarge": None,
    "Internal": EngineFailedError,
    "BackendProtocol": EngineFailedError,
    "Unauthenticated": EngineFailedError,
    "PermissionDenied": EngineFailedError,
    "Conflict": EngineFailedError,
}
_class = re.compile(r"(\w+): *", re.ASCII)


def error_of(error: Exception) -> DynamoError:
    """The library's error for one that a call of Dynamo's raised."""
    if isinstance(error, DynamoError):
        return error
    name, text = type(error).__name__, str(error)
    found = _class.match(text)
    if found and found[1] in _classes:
        name, text = found[1], text[found.end() :]
    text = _message(text) or name
    if name not in _classes:
        return EngineFailedError(f"{name}: {text}")
    return (_classes[name] or partial(error_of_http, 400))(text)


def _message(text: str) -> str:
    """What is for people to read in the text of an error, which may be JSON."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if isinstance(value, dict) and isinstance(value.get("message"), str):
        return str(value["message"])
    return text
