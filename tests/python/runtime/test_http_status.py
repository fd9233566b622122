# SPDX-License-Identifier: Apache-2.0
"""HTTP statuses and the library's errors."""

import dynamo_llm
import pytest
from dynamo_llm.runtime.http_status import error_of_http, http_status_of

kinds = dynamo_llm.DynamoError.__subclasses__()

#: What no client can cause or avoid.
internal = {
    "EngineFailedError",
    "EngineNotFoundError",
    "EngineUnavailableError",
    "ForkedError",
    "InternalError",
    "InvalidConfigError",
    "InvalidHandleError",
    "InvalidStateError",
    "PythonUnavailableError",
    "VersionMismatchError",
}


@pytest.mark.parametrize("kind", kinds)
def test_every_error_has_a_status(kind: type[dynamo_llm.DynamoError]) -> None:
    status = http_status_of(kind("x"))
    assert (status == 500) == (kind.__name__ in internal)
    assert status in (400, 404, 429, 499, 500, 501, 503, 504)


@pytest.mark.parametrize(
    "kind",
    [
        dynamo_llm.CancelledError,
        dynamo_llm.ContextLengthError,
        dynamo_llm.DeadlineExceededError,
        dynamo_llm.InvalidRequestError,
        dynamo_llm.ModelNotFoundError,
        dynamo_llm.NotSupportedError,
        dynamo_llm.OverloadedError,
        dynamo_llm.UnavailableError,
    ],
)
def test_there_and_back(kind: type[dynamo_llm.DynamoError]) -> None:
    """What one server of this library reports, another one reads as the same error."""
    error = kind("the context length is 5 tokens" if kind is dynamo_llm.ContextLengthError else "x")
    assert type(error_of_http(http_status_of(error), error.message)) is kind


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, dynamo_llm.InvalidRequestError),
        (401, dynamo_llm.EngineFailedError),
        (403, dynamo_llm.EngineFailedError),
        (408, dynamo_llm.DeadlineExceededError),
        (413, dynamo_llm.InvalidRequestError),
        (500, dynamo_llm.UnavailableError),
        (502, dynamo_llm.UnavailableError),
        (529, dynamo_llm.OverloadedError),
    ],
)
def test_other_servers(status: int, kind: type[dynamo_llm.DynamoError]) -> None:
    """Statuses that only other servers use."""
    assert type(error_of_http(status, "x")) is kind
