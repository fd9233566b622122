# SPDX-License-Identifier: Apache-2.0
"""The application: which path does what, and what happens to each request."""

import asyncio

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from dynamo_llm.api.endpoints import ENDPOINTS
from dynamo_llm.api.runtime import Runtime
from dynamo_llm.errors import DynamoError
from dynamo_llm.runtime.threads import in_pool
from dynamo_llm.server import error_answers
from dynamo_llm.server.answers import Answers
from dynamo_llm.server.auth import ApiKeys
from dynamo_llm.server.host_header import LocalHosts
from dynamo_llm.server.http_metrics import HttpMetrics
from dynamo_llm.server.in_flight import InFlight
from dynamo_llm.server.models import Models
from dynamo_llm.server.request_id import RequestIds
from dynamo_llm.server.settings import Settings
from dynamo_llm.server.tokens import Tokens

#: Seconds in which an engine must tell its models, for the server to count as healthy.
_patience = 5.0


def make_app(runtime: Runtime, settings: Settings, in_flight: InFlight, is_local: bool) -> Starlette:
    """Creates the application.

    :param in_flight: counts its requests.
    :param is_local: whether only programs of this machine can connect.
    """
    models = Models(runtime)
    tokens = Tokens(models, settings, in_flight)

    async def health(_request: HttpRequest) -> Response:
        if in_flight.is_closed:
            return JSONResponse({"status": "shutting down"}, 503)
        try:
            if await asyncio.wait_for(models.all(), _patience):
                return JSONResponse({"status": "ok"})
        except (DynamoError, asyncio.TimeoutError) as error:
            return JSONResponse({"status": f"the engine fails: {error or 'it does not answer'}"}, 503)
        return JSONResponse({"status": "no model is available"}, 503)

    async def metrics(_request: HttpRequest) -> Response:
        text = await in_pool(runtime.metrics) + counters.text(in_flight.count)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    routes = [
        *(
            Route(path, Answers(runtime, settings, in_flight, endpoint), methods=["POST"])
            for path, endpoint in ENDPOINTS.items()
        ),
        Route("/v1/models", models.list_all),
        Route("/v1/models/{name:path}", models.show),
        Route("/tokenize", tokens.tokenize, methods=["POST"]),
        Route("/detokenize", tokens.detokenize, methods=["POST"]),
        Route("/health", health),
        Route("/metrics", metrics),
    ]
    counters = HttpMetrics(frozenset(route.path for route in routes))
    middleware = [Middleware(RequestIds), Middleware(counters.counting)]
    if settings.cors_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origins,
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
                expose_headers=["X-Request-Id"],
            )
        )
    if settings.api_keys:
        middleware.append(Middleware(ApiKeys, settings.api_keys))
    elif is_local:
        middleware.append(Middleware(LocalHosts))
    return Starlette(
        routes=routes,
        middleware=middleware,
        exception_handlers={
            DynamoError: error_answers.on_library_error,
            HTTPException: error_answers.on_http_error,
            ClientDisconnect: error_answers.on_disconnect,
            Exception: error_answers.on_bug,
        },
    )
