# SPDX-License-Identifier: Apache-2.0
"""The errors: a class for each status of the C interface.

Callers catch them; engines in Python raise them to choose the status that their caller gets.
"""

import json
from typing import Any

from dynamo_llm._core import STATUSES


class DynamoError(Exception):
    """An error with a status of the C interface; the base of all errors of this package.

    In an engine, this class and any exception of another kind reach the caller as
    ``DYNAMO_ERROR_ENGINE_FAILED``, with their traceback.

    :param message: what is wrong and what would be right.
    :param details: all there is to know, see :attr:`details`.
    """

    status_name = "DYNAMO_ERROR_ENGINE_FAILED"
    """The status' name in the C interface."""

    def __init__(self, message: str = "", details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        """What is wrong and what would be right."""
        self.details: dict[str, Any] = details or {}
        """The object that ``dynamo_last_error_json()`` describes: ``layer``, ``engine``, ``request_id``,
        ``python`` with the engine's ``traceback``, ... Empty if the error was not raised by the library."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.details)

    @property
    def status(self) -> int:
        """The status' number in the C interface; negative."""
        status: int = self.details.get("status", STATUSES[self.status_name])
        return status

    @property
    def retriable(self) -> bool:
        """Whether the same call may succeed later."""
        return bool(self.details.get("retriable", False))

    @property
    def fatal(self) -> bool:
        """Whether the runtime, or Python in this process, will not recover."""
        return bool(self.details.get("fatal", False))


class InvalidArgumentError(DynamoError):
    """An argument is out of range, or is not UTF-8."""

    status_name = "DYNAMO_ERROR_INVALID_ARGUMENT"


class InvalidHandleError(DynamoError):
    """An object was given up already."""

    status_name = "DYNAMO_ERROR_INVALID_HANDLE"


class InvalidStateError(DynamoError):
    """The call does not fit the state of the object: a request that was sent twice."""

    status_name = "DYNAMO_ERROR_INVALID_STATE"


class InvalidJsonError(DynamoError):
    """A text is no JSON; the message gives the position."""

    status_name = "DYNAMO_ERROR_INVALID_JSON"


class InvalidConfigError(DynamoError):
    """A key or value of a runtime's configuration is wrong."""

    status_name = "DYNAMO_ERROR_INVALID_CONFIG"


class InvalidRequestError(DynamoError):
    """A key or value of a request is wrong."""

    status_name = "DYNAMO_ERROR_INVALID_REQUEST"


class EngineNotFoundError(DynamoError):
    """No engine has that name."""

    status_name = "DYNAMO_ERROR_ENGINE_NOT_FOUND"


class EngineUnavailableError(DynamoError):
    """The engine is known, but something that it needs is not installed."""

    status_name = "DYNAMO_ERROR_ENGINE_UNAVAILABLE"


class ModelNotFoundError(DynamoError):
    """The model does not exist or is no model."""

    status_name = "DYNAMO_ERROR_MODEL_NOT_FOUND"


class PythonUnavailableError(DynamoError):
    """No usable Python for engines; in a program in Python only if the package does not fit it."""

    status_name = "DYNAMO_ERROR_PYTHON_UNAVAILABLE"


class EngineFailedError(DynamoError):
    """The engine failed; :attr:`details` has its exception and traceback."""

    status_name = "DYNAMO_ERROR_ENGINE_FAILED"


class CancelledError(DynamoError):
    """The request was cancelled."""

    status_name = "DYNAMO_ERROR_CANCELLED"


class DeadlineExceededError(DynamoError):
    """A deadline passed."""

    status_name = "DYNAMO_ERROR_DEADLINE_EXCEEDED"


class OverloadedError(DynamoError):
    """More requests than the limits allow; try again later."""

    status_name = "DYNAMO_ERROR_OVERLOADED"


class UnavailableError(DynamoError):
    """Nobody there to serve the request at present; try again later."""

    status_name = "DYNAMO_ERROR_UNAVAILABLE"


class SlowConsumerError(DynamoError):
    """The stream was full and its policy is ``fail``."""

    status_name = "DYNAMO_ERROR_SLOW_CONSUMER"


class ContextLengthError(DynamoError):
    """Prompt and answer do not fit the model's context length."""

    status_name = "DYNAMO_ERROR_CONTEXT_LENGTH"


class ClosedError(DynamoError):
    """The runtime was shut down."""

    status_name = "DYNAMO_ERROR_CLOSED"


class ForkedError(DynamoError):
    """The process was forked after the library was used; only the parent may go on."""

    status_name = "DYNAMO_ERROR_FORKED"


class OutOfMemoryError(DynamoError):
    """The library ran out of memory."""

    status_name = "DYNAMO_ERROR_OUT_OF_MEMORY"


class NotSupportedError(DynamoError):
    """The engine or this platform cannot do that."""

    status_name = "DYNAMO_ERROR_NOT_SUPPORTED"


class VersionMismatchError(DynamoError):
    """The library and this package do not fit together."""

    status_name = "DYNAMO_ERROR_VERSION_MISMATCH"


class SystemFailedError(DynamoError):
    """The operating system refused: no threads, no file descriptors. (The status' name is SYSTEM; Python
    has a SystemError of its own.)"""

    status_name = "DYNAMO_ERROR_SYSTEM"


class InternalError(DynamoError):
    """A bug in the library; please report it."""

    status_name = "DYNAMO_ERROR_INTERNAL"


_classes = {STATUSES[kind.status_name]: kind for kind in DynamoError.__subclasses__()}


def error_of(status: int, message: str, details_json: str) -> DynamoError:
    """The error of a status, which the library calls to raise it.

    :param details_json: text of the object that ``dynamo_last_error_json()`` describes.
    """
    details = json.loads(details_json)
    error = _classes.get(status, DynamoError)(message, details)
    error.status_name = details["name"]  # a later library may have more of them
    return error
