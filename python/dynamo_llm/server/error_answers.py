# SPDX-License-Identifier: Apache-2.0
"""Errors in OpenAI's form."""

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from dynamo_llm.errors import DynamoError, InternalError
from dynamo_llm.printable import dump_json
from dynamo_llm.runtime.http_status import http_status_of
from dynamo_llm.runtime.openai_errors import error_object, error_object_of

#: Seconds after which a client may try again.
_pause = "1"


def error_body(error: DynamoError) -> dict[str, Any]:
    """Returns the body of an answer for an error."""
    return {"error": error_object_of(error)}


def answer_of(error: DynamoError) -> Response:
    """Returns the answer to a request that failed."""
    status = http_status_of(error)
    headers = {"Retry-After": _pause} if status in (429, 503) else {}
    return _answer(status, error_body(error), headers)


def error_answer(
    status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """Returns an answer for what is wrong with the use of HTTP."""
    return _answer(status, {"error": error_object(status, message, code)}, headers or {})


async def on_library_error(_request: HttpRequest, error: Exception) -> Response:
    """Handles a :class:`DynamoError`."""
    assert isinstance(error, DynamoError)
    return answer_of(error)


async def on_http_error(request: HttpRequest, error: Exception) -> Response:
    """Handles an error of Starlette, such as an unknown path, and those of this package."""
    assert isinstance(error, HTTPException)
    message = error.detail
    if error.status_code == 404:
        message = f'there is no endpoint "{request.url.path}"; GET /v1/models lists the models'
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        message = f'the endpoint "{request.url.path}" does not take {request.method}; use {allowed}'
    return error_answer(error.status_code, message, None, error.headers)


async def on_disconnect(_request: HttpRequest, _error: Exception) -> Response:
    """Handles the end of the connection while a body is read: nobody reads this answer."""
    return error_answer(499, "the client disconnected")


async def on_bug(_request: HttpRequest, _error: Exception) -> Response:
    """Handles any other exception, which uvicorn logs."""
    return answer_of(InternalError("the server failed; its log has the reason"))


def _answer(status: int, body: dict[str, Any], headers: Mapping[str, str]) -> Response:
    # OpenAI's clients repeat what fails with 408, 409, 429, and 5xx, unless this header tells them not to.
    retry = {"x-should-retry": "true" if status in (408, 429, 503, 504) else "false"}
    content = dump_json(body).encode()
    return Response(content, status, {**headers, **retry}, "application/json")
