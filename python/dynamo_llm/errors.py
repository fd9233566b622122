# SPDX-License-Identifier: Apache-2.0
"""Errors that say which status a caller gets."""

from dynamo_llm import _core


class DynamoError(Exception):
    """An error with a status of the C interface.

    An engine raises one of the subclasses to choose the status; any other exception reaches the caller as
    ``DYNAMO_ERROR_ENGINE_FAILED`` with its traceback.
    """

    status_name = "DYNAMO_ERROR_ENGINE_FAILED"

    @property
    def status(self) -> int:
        """The number of the status; negative."""
        return _core.STATUSES[self.status_name]


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


class NotSupportedError(DynamoError):
    """The engine cannot do that."""

    status_name = "DYNAMO_ERROR_NOT_SUPPORTED"


class ContextLengthError(DynamoError):
    """Prompt and answer do not fit the model's context length."""

    status_name = "DYNAMO_ERROR_CONTEXT_LENGTH"
