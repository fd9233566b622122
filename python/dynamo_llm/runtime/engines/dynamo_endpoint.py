# SPDX-License-Identifier: Apache-2.0
"""The engine ``dynamo-endpoint``: requests of data to any endpoint of a cluster of NVIDIA Dynamo."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Literal

from dynamo_llm.errors import InvalidConfigError, UnavailableError
from dynamo_llm.runtime import options
from dynamo_llm.runtime.cluster.connection import Connection, Event, acquire
from dynamo_llm.runtime.cluster.endpoint_path import full_path
from dynamo_llm.runtime.cluster.errors import error_of
from dynamo_llm.runtime.cluster.settings import Settings
from dynamo_llm.runtime.cluster.token_model import metadata
from dynamo_llm.runtime.engine import DataRequest, EngineConfig, ModelInfo

#: Names of Dynamo's RouterMode.
_modes = {
    "round_robin": "RoundRobin",
    "random": "Random",
    "power_of_two": "PowerOfTwoChoices",
    "least_loaded": "LeastLoaded",
    "direct": "RoundRobin",
}

#: Seconds that a client which was just made gets to hear of the instances that there are.
_first_look = 0.5
#: Seconds that it takes at most to make one.
_at_first = 2.0


@dataclass(frozen=True)
class Options:
    """Keys of ``options`` in the configuration."""

    endpoint: str = ""
    """Path of the endpoint, ``namespace.component.endpoint``, or without the namespace, which is the
    cluster's then. Needed."""
    instance: int | None = None
    """Id of the instance that gets all requests; needed with the router ``direct``, and only there."""
    wait_for_instance_ms: int = 10000
    """How long a request waits for an instance if there is none, in milliseconds; its deadlines may be
    sooner. 0: not at all."""


class DynamoEndpointEngine:
    """Sends data to an endpoint, and gets items back. The configuration's ``cluster`` says where the
    cluster is and, with ``router``, how an instance is chosen. See :class:`Options` for the options.
    """

    kind: Literal["data"] = "data"

    def __init__(self, config: EngineConfig) -> None:
        self._options = options.read(Options, config.options)
        self._settings = Settings.read(config.cluster)
        router, instance = self._settings.router, self._options.instance
        if router not in _modes:
            raise InvalidConfigError(
                f'"cluster.router" of the configuration must be one of {", ".join(_modes)} for an endpoint, '
                f'not "{router}", which chooses by token ids'
            )
        if (router == "direct") != (instance is not None):
            raise InvalidConfigError(
                '"options.instance" of the configuration and "cluster.router": "direct" need each other'
            )
        if self._options.wait_for_instance_ms < 0:
            raise InvalidConfigError(
                '"options.wait_for_instance_ms" of the configuration must not be negative'
            )
        self._path = full_path(self._options.endpoint, self._settings.namespace)
        self._connection: Connection | None = None
        self._forget: Callable[[], None] | None = None
        self._client: Any = None
        self._opening = asyncio.Lock()

    async def start(self) -> None:
        """Connect. Instances may come later."""
        self._connection = await acquire(self._settings)
        self._forget = self._connection.subscribe(self._on_event)

    async def stop(self) -> None:
        """Disconnect."""
        if self._forget is not None:
            self._forget()
        if self._connection is not None:
            await self._connection.release()

    def describe(self) -> ModelInfo:
        """Which endpoint it is."""
        return {"capabilities": ["data"], "path": self._path}

    def _on_event(self, event: Event) -> None:
        self._client = None  # of a runtime that has ended

    async def _open(self) -> Any:
        """Dynamo's client of the endpoint, which has had some time to learn of the instances."""
        assert self._connection is not None
        async with self._opening:
            while self._client is None:
                runtime = await self._connection.wait()
                mode = getattr(self._connection.core.RouterMode, _modes[self._settings.router])
                client = await runtime.endpoint(self._path).client(mode)
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(client.wait_for_instances(), _first_look)
                if (
                    self._connection.is_connected and self._connection.runtime is runtime
                ):  # not lost meanwhile
                    self._client = client
            return self._client

    async def _ready_client(self) -> Any:
        """The client, when it knows an instance."""
        seconds = self._options.wait_for_instance_ms / 1000
        client = self._client
        if client is None:
            client = await asyncio.wait_for(self._open(), max(seconds, _at_first))
        if not client.instance_ids():
            await asyncio.wait_for(client.wait_for_instances(), seconds)
        return client

    async def generate(self, request: DataRequest) -> AsyncIterator[Any]:
        """Call the endpoint. When it is left early, the instance is told."""
        assert self._connection is not None
        try:
            client = await self._ready_client()
        except asyncio.TimeoutError:
            milliseconds = self._options.wait_for_instance_ms
            raise UnavailableError(
                f"nobody served {self._path} in {self._settings.address} for {milliseconds} ms "
                f'("options.wait_for_instance_ms" of the configuration)'
            ) from None
        context = self._connection.core.Context(id=request.id, metadata=metadata(None, request.remaining()))
        has_ended = False
        stream = None
        try:
            if self._options.instance is None:
                stream = await client.generate(request.data, annotated=False, context=context)
            else:
                instance = self._options.instance
                stream = await client.direct(request.data, instance, annotated=False, context=context)
            async for item in stream:
                yield item
            has_ended = True
        except Exception as error:
            known = error_of(error)
            if known is error:
                raise
            raise known from error
        finally:
            if not has_ended:
                context.stop_generating()
            del stream  # without it the instance is stopped at once, too
