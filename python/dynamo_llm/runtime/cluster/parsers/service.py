# SPDX-License-Identifier: Apache-2.0
"""Runs Dynamo's frontend for its parsers.

Dynamo's Python package lists its parsers, but runs them only in its frontend, on the tokens of a worker. So
this process has a frontend, and is the worker whose tokens are the text to parse. No other process finds the
worker: the discovery is in this process's memory.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol, cast

from dynamo_llm.errors import UnavailableError
from dynamo_llm.runtime import untrusted_json
from dynamo_llm.runtime.cluster import http_client
from dynamo_llm.runtime.cluster.client.frontend import free_port
from dynamo_llm.runtime.cluster.connection import Connection
from dynamo_llm.runtime.cluster.parsers import byte_model
from dynamo_llm.runtime.cluster.worker.config import ModelConfig
from dynamo_llm.runtime.cluster.worker.registration import RegisteredModel, Registration
from dynamo_llm.runtime.threads import in_thread

#: Dynamo namespace of the service; only this process sees it.
namespace = "dynamo_llm_parsers"

#: Seconds for the frontend to start, and to find a model.
_timeout = 20.0
#: Another process may take the free port before the frontend binds it.
_attempts = 5


class Text(Protocol):
    """A text that is being parsed."""

    id: str
    """Unique, and unknown to other processes."""

    def items(self) -> AsyncIterator[dict[str, Any]]:
        """Yields the text as the answer of a worker: items of Dynamo's wire format."""


async def service_of(connection: Connection) -> "ParserService":
    """Returns the service on a connection's runtime, with which it ends; all users share it.

    :raises UnavailableError: it does not start.
    """
    opening = connection.shared.get(ParserService)
    if opening is None:
        service = ParserService(connection)
        opening = connection.shared[ParserService] = asyncio.create_task(service.start())
    try:
        return cast(ParserService, await asyncio.shield(opening))
    except BaseException:
        if opening.done() and connection.shared.get(ParserService) is opening:
            del connection.shared[ParserService]  # the next caller tries again
        raise


class ParserService:
    """A frontend of Dynamo and its only worker. Used on the event loop."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._runtime = connection.runtime
        self.port = 0
        """The frontend's HTTP port on the loopback interface."""
        self._running: asyncio.Future[Any] | None = None
        self._models: dict[tuple[str | None, str | None], asyncio.Task[str]] = {}
        self._texts: dict[str, Text] = {}

    async def start(self) -> "ParserService":
        """Starts the frontend; returns when it serves."""
        problem = ""
        for _ in range(_attempts):
            try:
                await asyncio.wait_for(self._start(free_port()), _timeout)
                return self
            except asyncio.TimeoutError:
                problem = f"it does not serve within {_timeout:g} s"
            except OSError as error:
                problem = str(error)
        raise UnavailableError(f"Dynamo's frontend, which runs its parsers, does not start: {problem}")

    async def _start(self, port: int) -> None:
        core = self._connection.core
        arguments = core.EntrypointArgs(
            core.EngineType.Dynamic,
            http_host="127.0.0.1",
            http_port=port,
            router_config=core.RouterConfig(core.RouterMode.RoundRobin),
            namespace=namespace,
        )
        engine = await core.make_engine(self._runtime, arguments)
        self._running = asyncio.ensure_future(core.run_input(self._runtime, "http", engine))
        self.port = port
        try:
            while True:
                if self._running.done():
                    raise OSError(str(self._running.exception() or "it ended"))
                with contextlib.suppress(OSError, EOFError, ValueError):
                    await self._model_names()
                    return
                await asyncio.sleep(0.02)
        except BaseException:
            self._running.cancel()
            raise

    async def _model_names(self) -> list[str]:
        text = await http_client.fetch(f"http://127.0.0.1:{self.port}", 80, "/v1/models")
        return [model["id"] for model in untrusted_json.parse(text)["data"]]

    async def model(self, tool_call_parser: str | None, reasoning_parser: str | None) -> str:
        """Returns the frontend's name of a model with these parsers; the first call registers it.

        :raises UnavailableError: the frontend does not accept it.
        """
        key = (tool_call_parser, reasoning_parser)
        registering = self._models.get(key)
        if registering is None or (registering.done() and registering.exception() is not None):
            name = f"parser-{len(self._models)}"
            registering = self._models[key] = asyncio.create_task(self._register(name, *key))
        return await asyncio.shield(registering)

    async def _register(self, name: str, tool_call_parser: str | None, reasoning_parser: str | None) -> str:
        with tempfile.TemporaryDirectory(prefix="dynamo-llm-parsers-") as folder:
            await in_thread(byte_model.write, Path(folder))
            config = ModelConfig(
                types=["chat"], tool_call_parser=tool_call_parser, reasoning_parser=reasoning_parser
            )
            model = RegisteredModel(name, folder, True, byte_model.context_length, config)
            registration = Registration(self._connection, f"{namespace}.{name}.generate", model, None)
            await registration.enter(self._answer)
            try:
                await asyncio.wait_for(self._is_listed(name), _timeout)
            except asyncio.TimeoutError:
                await registration.end()
                raise UnavailableError(
                    f"Dynamo's frontend does not start the parsers {tool_call_parser} and {reasoning_parser} "
                    f"within {_timeout:g} s"
                ) from None
        return name

    async def _is_listed(self, name: str) -> None:
        while name not in await self._model_names():
            await asyncio.sleep(0.02)

    def add(self, text: Text) -> None:
        """Makes a text available to the worker."""
        self._texts[text.id] = text

    def remove(self, text: Text) -> None:
        """Forgets a text."""
        self._texts.pop(text.id, None)

    async def _answer(self, request: Any, context: Any = None) -> AsyncIterator[dict[str, Any]]:
        """Is the worker's handler: the prompt begins with the id of the text."""
        prompt = bytes(request["token_ids"]).decode("utf-8", "replace")
        text = self._texts.get(prompt.partition("\n")[0])
        if text is None:  # another process sent it; an exception would be printed with its traceback
            return
        async for item in text.items():
            yield item
