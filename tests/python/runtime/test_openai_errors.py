# SPDX-License-Identifier: Apache-2.0
"""Errors as OpenAI's servers report them."""

import dynamo_llm
import pytest
from dynamo_llm.runtime.openai_errors import error_object_of


@pytest.mark.parametrize(
    ("kind", "name", "code"),
    [
        (dynamo_llm.InvalidRequestError, "invalid_request_error", "invalid_request"),
        (dynamo_llm.ContextLengthError, "invalid_request_error", "context_length_exceeded"),
        (dynamo_llm.ModelNotFoundError, "invalid_request_error", "model_not_found"),
        (dynamo_llm.NotSupportedError, "invalid_request_error", "not_supported"),
        (dynamo_llm.OverloadedError, "rate_limit_error", "rate_limit_exceeded"),
        (dynamo_llm.DeadlineExceededError, "timeout", "deadline_exceeded"),
        (dynamo_llm.UnavailableError, "service_unavailable", "unavailable"),
        (dynamo_llm.EngineFailedError, "server_error", "engine_failed"),
    ],
)
def test_object(kind: type[dynamo_llm.DynamoError], name: str, code: str) -> None:
    assert error_object_of(kind("why")) == {"message": "why", "type": name, "param": None, "code": code}
