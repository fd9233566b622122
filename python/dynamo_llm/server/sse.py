# SPDX-License-Identifier: Apache-2.0
"""Sends an answer as server-sent events (SSE)."""

from typing import Any

from starlette.types import Send

from dynamo_llm.api.request import Request
from dynamo_llm.errors import DynamoError
from dynamo_llm.printable import dump_json
from dynamo_llm.server.error_answers import error_body
from dynamo_llm.server.in_flight import InFlight

_headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would otherwise collect events
]
_done = b"data: [DONE]\n\n"


async def send_events(request: Request[Any], send: Send, in_flight: InFlight) -> None:
    """Sends each response as an event as soon as it arrives. Waits while the client does not read.

    The header is sent with the first response, so that a request that fails before has an HTTP status. A
    later error is an event with ``error``, and then ``[DONE]`` is missing.

    :raises DynamoError: the request failed before its first response.
    """
    response = await anext(request, None)
    await send({"type": "http.response.start", "status": 200, "headers": _headers})
    last = _done
    try:
        while response is not None:
            await send({"type": "http.response.body", "body": _event(response.json()), "more_body": True})
            response = await anext(request, None)
    except DynamoError as error:
        last = _event(error_body(in_flight.explain(error)))
    await send({"type": "http.response.body", "body": last})


def _event(value: Any) -> bytes:
    """Returns an event. Characters that some clients take for the end of a line are escaped in its JSON."""
    return f"data: {dump_json(value)}\n\n".encode()
