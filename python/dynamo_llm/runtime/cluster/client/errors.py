# SPDX-License-Identifier: Apache-2.0
"""Translates errors of Dynamo's clients.

Most of Dynamo's exception types do not cross processes: its client raises a ValueError or an Exception whose
message begins with the name of the error class.
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
from dynamo_llm.runtime.cluster.client.delivery import was_undelivered
from dynamo_llm.runtime.cluster.timeouts import stall_seconds
from dynamo_llm.runtime.http_status import error_of_http

#: Class at the beginning of a message, and the error; None: an invalid request, distinguished by its message.
_classes: dict[str, type[DynamoError] | None] = {
    "Unavailable": UnavailableError,
    "WorkerUnavailable": UnavailableError,
    "DeadlineExceeded": DeadlineExceededError,
    "Cancelled": CancelledError,
    "RateLimited": OverloadedError,
    "WorkerOverloaded": OverloadedError,
    "RouterQueueLimitExceeded": OverloadedError,
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
#: Message of the error of a worker that sent nothing for too long.
_silence = "backend response inactivity timeout"
_class = re.compile(r"(\w+): *", re.ASCII)


def error_of(error: Exception) -> DynamoError:
    """Returns the library's error for one that a Dynamo call raised."""
    if isinstance(error, DynamoError):
        return error
    name, text = type(error).__name__, str(error)
    found = _class.match(text)
    if found and found[1] in _classes:
        name, text = found[1], text[found.end() :]
    if text == _silence:
        return silence_error()
    text = _message(text) or name
    if name not in _classes and was_undelivered(error):
        return UnavailableError(text)
    if name not in _classes:
        return EngineFailedError(f"{name}: {text}")
    return (_classes[name] or partial(error_of_http, 400))(text)


def error_of_response(text: str) -> DynamoError:
    """Returns the library's error for an answer of Dynamo's HTTP server that failed.

    :param text: HTTP status, 0 for an answer that breaks the protocol; a space; and the body or event that
        reports the error.
    """
    status, _, body = text.partition(" ")
    message = _message(body) or f"Dynamo's frontend answered with the HTTP status {status}"
    found = _class.match(message)
    if found and found[1] in _classes:
        return error_of(ValueError(message))
    if status in ("0", "500", "502"):  # the worker failed, or its answer was not understood
        return EngineFailedError(message)
    return error_of_http(int(status), message)


def silence_error() -> UnavailableError:
    """Returns the error of a request whose workers sent nothing for too long."""
    return UnavailableError(
        f"the worker sent nothing for {stall_seconds() or 0:g} seconds "
        f'("cluster.stall_ms" of the configuration), and no other one took over'
    )


def _message(text: str) -> str:
    """Returns the human-readable message of an error's text, which may be JSON."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    for given in (value, value.get("error")) if isinstance(value, dict) else ():
        if isinstance(given, dict) and isinstance(given.get("message"), str):
            return str(given["message"])
    return text
