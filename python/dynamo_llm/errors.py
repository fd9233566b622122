# SPDX-License-Identifier: Apache-2.0
"""The exceptions: one class for each error status of the C API.

Callers catch them. Engines in Python raise them to choose the status that their caller gets.
"""

import json
from functools import cache
from typing import Any


class DynamoError(Exception):
    """An error with a status of the C API; the base class of all errors of this package.

    When an engine raises this class itself, or any other exception, the caller gets
    ``DYNAMO_ERROR_ENGINE_FAILED`` with the traceback.
    """

    status_name = "DYNAMO_ERROR_ENGINE_FAILED"
    """Name of the status in the C API."""

    def __init_subclass__(cls, status_name: str | None = None) -> None:
        super().__init_subclass__()
        if status_name is not None:
            cls.status_name = status_name

    def __init__(self, message: str = "", details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        """What is wrong and what would be right."""
        self.details: dict[str, Any] = details or {}
        """Error details, as ``dynamo_last_error_json()`` describes them: ``layer``, ``engine``,
        ``request_id``, ``python`` with the engine's ``traceback``, ... Empty if the library did not raise the
        error."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.details)

    @property
    def status(self) -> int:
        """Number of the status in the C API; negative."""
        status: int = self.details["status"] if "status" in self.details else _statuses()[self.status_name]
        return status

    @property
    def retriable(self) -> bool:
        """Whether the same call may succeed later."""
        return bool(self.details.get("retriable", False))

    @property
    def fatal(self) -> bool:
        """Whether the runtime, or Python in this process, is unusable from now on."""
        return bool(self.details.get("fatal", False))


class InvalidArgumentError(DynamoError, status_name="DYNAMO_ERROR_INVALID_ARGUMENT"):
    """An argument is out of range or not valid UTF-8."""


class InvalidHandleError(DynamoError, status_name="DYNAMO_ERROR_INVALID_HANDLE"):
    """The object was closed before."""


class InvalidStateError(DynamoError, status_name="DYNAMO_ERROR_INVALID_STATE"):
    """The object's state does not allow the call, such as sending a request twice."""


class InvalidJsonError(DynamoError, status_name="DYNAMO_ERROR_INVALID_JSON"):
    """A text is not valid JSON; the message gives the position."""


class InvalidConfigError(DynamoError, status_name="DYNAMO_ERROR_INVALID_CONFIG"):
    """A key or a value of the configuration is not valid."""


class InvalidRequestError(DynamoError, status_name="DYNAMO_ERROR_INVALID_REQUEST"):
    """A key or a value of the request is not valid."""


class EngineNotFoundError(DynamoError, status_name="DYNAMO_ERROR_ENGINE_NOT_FOUND"):
    """No engine has that name."""


class EngineUnavailableError(DynamoError, status_name="DYNAMO_ERROR_ENGINE_UNAVAILABLE"):
    """The engine is known, but something it needs is not installed."""


class ModelNotFoundError(DynamoError, status_name="DYNAMO_ERROR_MODEL_NOT_FOUND"):
    """The model does not exist or is not a valid model."""


class PythonUnavailableError(DynamoError, status_name="DYNAMO_ERROR_PYTHON_UNAVAILABLE"):
    """No usable Python was found to run engines. In a Python program, the package does not fit its Python."""


class EngineFailedError(DynamoError, status_name="DYNAMO_ERROR_ENGINE_FAILED"):
    """The engine failed; :attr:`details` has its exception and its traceback."""


class CancelledError(DynamoError, status_name="DYNAMO_ERROR_CANCELLED"):
    """The request was cancelled."""


class DeadlineExceededError(DynamoError, status_name="DYNAMO_ERROR_DEADLINE_EXCEEDED"):
    """A deadline or timeout passed."""


class OverloadedError(DynamoError, status_name="DYNAMO_ERROR_OVERLOADED"):
    """There are more requests than the limits allow; try again later."""


class UnavailableError(DynamoError, status_name="DYNAMO_ERROR_UNAVAILABLE"):
    """No worker is currently available; try again later."""


class SlowConsumerError(DynamoError, status_name="DYNAMO_ERROR_SLOW_CONSUMER"):
    """The stream was full, and its ``when_full`` is ``fail``."""


class ContextLengthError(DynamoError, status_name="DYNAMO_ERROR_CONTEXT_LENGTH"):
    """Prompt and answer exceed the model's context length."""


class ClosedError(DynamoError, status_name="DYNAMO_ERROR_CLOSED"):
    """The runtime was shut down."""


class ForkedError(DynamoError, status_name="DYNAMO_ERROR_FORKED"):
    """The process was forked after the library was used; only the parent can use the library."""


class OutOfMemoryError(DynamoError, status_name="DYNAMO_ERROR_OUT_OF_MEMORY"):
    """The library ran out of memory."""


class NotSupportedError(DynamoError, status_name="DYNAMO_ERROR_NOT_SUPPORTED"):
    """The engine or the platform does not support the operation."""


class VersionMismatchError(DynamoError, status_name="DYNAMO_ERROR_VERSION_MISMATCH"):
    """The library and this package have incompatible versions."""


class SystemFailedError(DynamoError, status_name="DYNAMO_ERROR_SYSTEM"):
    """The operating system refused a thread, a file descriptor, or the like. (The status is SYSTEM, but
    Python has a ``SystemError`` of its own.)
    """


class InternalError(DynamoError, status_name="DYNAMO_ERROR_INTERNAL"):
    """A bug in the library; please report it."""


def _statuses() -> dict[str, int]:
    # Not at the top: some child processes use this module without loading the library.
    from dynamo_llm._core import STATUSES

    return STATUSES


@cache
def _classes() -> dict[int, type[DynamoError]]:
    statuses = _statuses()
    return {statuses[kind.status_name]: kind for kind in _own}


_own = tuple(DynamoError.__subclasses__())


def error_of(status: int, message: str, details_json: str) -> DynamoError:
    """Creates the exception for a status; the library raises what this returns.

    :param details_json: JSON of the object that ``dynamo_last_error_json()`` describes.
    """
    details = json.loads(details_json)
    milliseconds = details.get("timeout_ms")
    if isinstance(milliseconds, int):  # the caller gave seconds
        message = message.replace(f"{milliseconds} ms", f"{milliseconds / 1000:g} s")
        details["message"] = message
    error = _classes().get(status, DynamoError)(message, details)
    error.status_name = details["name"]  # a later library may have statuses that this package does not know
    return error
