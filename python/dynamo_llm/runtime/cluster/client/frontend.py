# SPDX-License-Identifier: Apache-2.0
"""Dynamo's frontends in this process: they discover models, and create a router for each.

There are two kinds. One gives its routers to the library, which makes the tokens of requests, and texts of
tokens, itself. The other answers OpenAI bodies over HTTP with Dynamo's own pipeline: the library's C++ code
uses it without Python. The HTTP servers listen on free ports of the loopback interface; the kernel lets only
that code connect to them.
"""

import asyncio
import json
import logging
import secrets
import socket
from typing import Any, cast

from dynamo_llm import _core
from dynamo_llm.errors import UnavailableError
from dynamo_llm.runtime.cluster import http_client
from dynamo_llm.runtime.cluster.client.router_config import router_config
from dynamo_llm.runtime.cluster.client.token_model import TokenModel
from dynamo_llm.runtime.cluster.connection import Connection
from dynamo_llm.runtime.cluster.listening_socket import accept_only_from, close_accepted, send_at_once
from dynamo_llm.runtime.cluster.settings import Settings

_log = logging.getLogger("dynamo_llm.cluster")

#: Seconds for the HTTP server to start.
_timeout = 10.0
#: Another process may take the free port before the server binds it.
_attempts = 5


async def frontend_of(connection: Connection, settings: Settings, answers: bool = False) -> "Frontend":
    """Returns the frontend of a connection's runtime, which all users with the same settings share: its
    watches last as long as the runtime.

    :param answers: whether it answers requests over HTTP, and so has no routers for the library.
    :raises InvalidConfigError: the router's options are invalid.
    :raises UnavailableError: it does not start, or the connection is lost.
    """
    options = json.dumps(settings.router_options, sort_keys=True, default=str)
    scope = settings.namespace, settings.namespace_prefix
    migration = settings.migration_limit, settings.migration_max_seq_len
    key = ("frontend", *scope, settings.router, options, *migration, answers)
    opening = connection.shared.get(key)
    if opening is None:
        frontend = Frontend(connection, settings, answers)
        opening = connection.shared[key] = asyncio.create_task(frontend.start())
    try:
        return cast(Frontend, await asyncio.shield(opening))
    except BaseException:
        if opening.done() and connection.shared.get(key) is opening:
            del connection.shared[key]  # the next caller tries again
        raise


class Frontend:
    """A frontend on a connection's current runtime, with which it ends. Used on the event loop."""

    def __init__(self, connection: Connection, settings: Settings, answers: bool) -> None:
        self.port = 0
        """The port of an HTTP server that answers requests; 0: it cannot be used."""
        self._answers = answers
        self._core = connection.core
        self._runtime = connection.runtime
        self._settings = settings
        self._routed: dict[str, TokenModel] = {}
        self._view: Any = None

    def names(self) -> list[str]:
        """Returns the names of the models that can answer requests now, sorted."""
        return sorted(self._view.serving_ready_display_names())

    def model(self, name: str, wait: float) -> TokenModel | None:
        """Returns the model with this name, if it is token-level and has been discovered.

        :param wait: seconds that its requests wait while no worker receives them.
        """
        found = self._routed.get(name)
        return None if found is None else found.waiting(wait)

    async def start(self) -> "Frontend":
        """Starts it; returns when it serves."""
        router = router_config(self._core, self._settings.router, self._settings.router_options)
        problem = ""
        for _ in range(_attempts):
            try:
                await self._start(router)
                return self
            except OSError as error:
                problem = str(error)
        raise UnavailableError(f"Dynamo's frontend does not start: {problem}")

    async def _start(self, router: Any) -> None:
        core, loop = self._core, asyncio.get_running_loop()
        path, port = "/" + secrets.token_hex(16), free_port()
        factory = None if self._answers else self._discovered
        arguments = core.EntrypointArgs(
            core.EngineType.Dynamic,
            http_host="127.0.0.1",
            http_port=port,
            router_config=router,
            migration_limit=self._settings.migration_limit,
            migration_max_seq_len=self._settings.migration_max_seq_len,
            chat_engine_factory=factory,
            namespace=self._settings.namespace,
            namespace_prefix=self._settings.namespace_prefix,
        )
        view: asyncio.Future[Any] = loop.create_future()

        def show(context: Any) -> dict[str, Any]:
            loop.call_soon_threadsafe(seen, context)
            return {}

        def seen(context: Any) -> None:
            if not view.done():
                view.set_result(context)

        # Dynamo passes the view of the served models to the handlers of routes.
        route = core.FrontendRoute("GET", path, show)
        engine = await core.make_engine(self._runtime, arguments)
        running = asyncio.ensure_future(core.run_input(self._runtime, "http", engine, [route]))
        requesting = asyncio.ensure_future(_request(f"http://127.0.0.1:{port}", path))
        try:
            await asyncio.wait({running, view}, timeout=_timeout, return_when=asyncio.FIRST_COMPLETED)
            if not view.done():
                raise OSError(_problem_of(running))
            self._view = view.result()
        except BaseException:
            running.cancel()
            raise
        finally:
            requesting.cancel()
        await self._guard(port, running)

    async def _guard(self, port: int, running: "asyncio.Future[Any]") -> None:
        """Keeps other processes away from the server."""
        address = f"127.0.0.1:{port}"
        source = _core.frontend_source_port() if self._answers else 0
        is_guarded = accept_only_from(address, source)
        for _ in range(2):  # those that came before, also if they are not accepted yet
            close_accepted(address)
            await asyncio.sleep(0.02)
        if not is_guarded:
            _log.info(
                "the kernel does not protect Dynamo's HTTP server at %s, which is therefore not used", address
            )
        elif source and send_at_once(address):
            self.port = port
            running.add_done_callback(self._on_end)

    def _on_end(self, running: "asyncio.Future[Any]") -> None:
        """The server has ended, and another process may bind its port."""
        self.port = 0
        if not running.cancelled() and running.exception() is not None:
            _log.warning("Dynamo's HTTP server in this process has ended: %s", running.exception())

    async def _discovered(self, instance: Any, card: Any, routed: Any) -> Any:
        """Dynamo calls this when a model's first worker joins; the router is ``routed``."""
        moves = None if self._settings.router == "kv" else self._settings.migration_limit
        self._routed[card.name()] = TokenModel(self._core, card, routed, moves)

        async def unused(request: Any, context: Any = None) -> Any:
            raise NotImplementedError("this frontend takes no requests over HTTP")
            yield {}

        return self._core.PythonAsyncEngine(unused, asyncio.get_running_loop())


def _problem_of(running: "asyncio.Future[Any]") -> str:
    if not running.done():
        return f"it does not serve within {_timeout:g} s"
    error = running.exception()
    return str(error) if error is not None else "it ended"


async def _request(url: str, path: str) -> None:
    """Sends requests until one is answered."""
    while True:
        try:
            await http_client.fetch(url, 80, path)
            return
        except (OSError, EOFError, ValueError):
            await asyncio.sleep(0.05)


def free_port() -> int:
    """Returns a port of the loopback interface that no process has bound; another one may bind it at once."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])
