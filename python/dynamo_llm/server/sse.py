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
    later error is an event with ``error``, and then ``[DONE]`` is missing; in the stream of a Responses body,
    whose events have names, it is ``response.failed``.

    :raises DynamoError: the request failed before its first response.
    """
    response = await anext(request, None)
    await send({"type": "http.response.start", "status": 200, "headers": _headers})
    last = _done
    begun: dict[str, Any] = {}  # the answer as the first event has it
    number = 0
    try:
        while response is not None:
            chunk = response.json()
            if "events" in chunk:
                events, last = chunk["events"], b""
                begun = begun or events[0]["response"]
                number = events[-1]["sequence_number"] + 1 if events else number
                body = b"".join(map(_named_event, events))
            else:
                body = _event(chunk)
            await send({"type": "http.response.body", "body": body, "more_body": True})
            response = await anext(request, None)
    except DynamoError as error:
        failure = in_flight.explain(error)
        last = _named_event(_failed(failure, begun, number)) if begun else _event(error_body(failure))
    await send({"type": "http.response.body", "body": last})


def _failed(error: DynamoError, begun: dict[str, Any], number: int) -> dict[str, Any]:
    """Returns the event for a failure of a Responses body.

    :param begun: the answer as the first event has it.
    :param number: of the event.
    """
    message = error_body(error)["error"]["message"]
    return {
        "type": "response.failed",
        "sequence_number": number,
        "response": {
            **begun,
            "status": "failed",
            "error": {"code": "server_error", "message": message},
        },
    }


def _named_event(value: dict[str, Any]) -> bytes:
    """Returns an event of a stream whose events have names."""
    return f"event: {value['type']}\n".encode() + _event(value)


def _event(value: Any) -> bytes:
    """Returns an event. Characters that some clients take for the end of a line are escaped in its JSON."""
    return f"data: {dump_json(value)}\n\n".encode()
