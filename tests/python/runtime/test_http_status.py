# SPDX-License-Identifier: Apache-2.0
"""Errors and HTTP statuses."""

import pytest
from dynamo_llm import errors
from dynamo_llm.runtime.http_status import error_of_http, http_of_error

#: Errors for which HTTP has no status of their own.
others = {
    errors.ClosedError: errors.UnavailableError,
    errors.InvalidArgumentError: errors.InvalidRequestError,
    errors.InvalidJsonError: errors.InvalidRequestError,
}


@pytest.mark.parametrize("kind", errors.DynamoError.__subclasses__())
def test_there_and_back(kind: type[errors.DynamoError]) -> None:
    """A client that sends a request to a server gets the error that the server's library reported."""
    error = kind("the prompt is too long: the context length is 5")
    status, answer = http_of_error(error)
    assert 400 <= status < 600
    assert answer["message"] == error.message
    assert answer["param"] is None
    assert isinstance(answer["type"], str) and isinstance(answer["code"], str)
    if status == 500:
        return  # the server's fault, whatever it was
    message = "wrong" if kind is not errors.ContextLengthError else answer["message"]
    assert type(error_of_http(status, message)) is others.get(kind, kind)
