# SPDX-License-Identifier: Apache-2.0
"""Answers chats, completions, embedding requests, and the other kinds of requests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.types import Receive, Scope, Send

from dynamo_llm._core import Response
from dynamo_llm.api.endpoints import Endpoint
from dynamo_llm.api.request import Request
from dynamo_llm.api.result import ListAnswer
from dynamo_llm.api.runtime import Runtime
from dynamo_llm.errors import DynamoError, InvalidRequestError
from dynamo_llm.printable import dump_json
from dynamo_llm.runtime.threads import in_pool
from dynamo_llm.server.in_flight import InFlight
from dynamo_llm.server.request_body import read_body
from dynamo_llm.server.request_id import set_request_id
from dynamo_llm.server.settings import Settings
from dynamo_llm.server.sse import send_events

#: Bytes of a body; the library takes noticeable time to read longer ones.
_long = 2**18


class Answers:
    """One endpoint: passes the body to the runtime as it is, and sends the answer.

    :param endpoint: what bodies of this endpoint have.
    """

    def __init__(self, runtime: Runtime, settings: Settings, in_flight: InFlight, endpoint: Endpoint) -> None:
        self._runtime = runtime
        self._settings = settings
        self._in_flight = in_flight
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request. When the client disconnects, the runtime's request is cancelled at once."""
        with self._in_flight.slot():
            body, length = await read_body(HttpRequest(scope, receive), self._settings)
            endpoint = self._endpoint
            if not endpoint.is_complete(body):
                raise InvalidRequestError(f'"{endpoint.key}" is missing in the request')
            body = endpoint.body_of(body)
            if endpoint.streams and body.get("stream") is None:
                body["stream"] = False  # OpenAI's default; the library's is to stream
            if length > _long:
                request = await in_pool(self._runtime.request, body)
            else:
                request = self._runtime.request(body)
            set_request_id(scope, request.id)
            with self._in_flight.cancellable(request):
                async with _cancelled_on_disconnect(request, receive):
                    if body.get("stream"):
                        await send_events(request, send, self._in_flight)
                        return
                    try:
                        responses = [response async for response in request]
                    except DynamoError as error:
                        raise self._in_flight.explain(error) from error
            await _json(responses)(scope, receive, send)


def _json(responses: list[Response]) -> HttpResponse:
    """Returns a whole answer: one response, unless an engine makes embeddings in parts."""
    whole = responses[0].json() if len(responses) == 1 else ListAnswer(responses).json()
    return HttpResponse(dump_json(whole).encode(), media_type="application/json")


@asynccontextmanager
async def _cancelled_on_disconnect(request: Request[Any], receive: Receive) -> AsyncIterator[None]:
    """Cancels a request if its client disconnects during the block."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        request.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()
