# SPDX-License-Identifier: Apache-2.0
"""The engine ``dynamo-endpoint``: raw requests to any endpoint of an NVIDIA Dynamo cluster."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from dynamo_llm.errors import InvalidConfigError, UnavailableError
from dynamo_llm.runtime import options
from dynamo_llm.runtime.cluster import timeouts
from dynamo_llm.runtime.cluster.client.remote_call import remote_call
from dynamo_llm.runtime.cluster.client.router_mode import mode_of_endpoint
from dynamo_llm.runtime.cluster.connection import Event, acquire
from dynamo_llm.runtime.cluster.settings import Router, Settings
from dynamo_llm.runtime.engine import DataRequest, EngineConfig, ModelInfo
from dynamo_llm.runtime.options import at_least

#: Seconds for a new client to discover the live instances.
_discovery_time = 0.5
#: Seconds for its creation.
_open_timeout = 2.0


@dataclass(frozen=True)
class Options:
    """Keys of ``options`` in the configuration."""

    endpoint: str = ""
    """Path of the endpoint: ``namespace.component.endpoint``, or without the namespace, which defaults to
    that of the cluster. Required."""
    instance: int | None = None
    """Id of the instance that gets all requests; required with the router ``direct``, and only there."""
    wait_for_instance_ms: Annotated[int, at_least(0)] = 10000
    """How long a request waits for a live instance, in milliseconds, unless a deadline of the request is
    earlier. 0: not at all."""


class DynamoEndpointEngine:
    """Sends payloads to an endpoint, and receives items. The configuration's ``cluster`` describes the
    cluster and, with ``router``, how an instance is selected. See :class:`Options` for the options.
    """

    kind: Literal["data"] = "data"

    def __init__(self, config: EngineConfig) -> None:
        self._options = options.read(Options, config.options)
        self._settings = Settings.read(config.cluster)
        router, instance = self._settings.router, self._options.instance
        if router == "kv":
            known = ", ".join(name for name in get_args(Router) if name != "kv")
            raise InvalidConfigError(
                f'"cluster.router" of the configuration must be one of {known} for an endpoint, not "kv", '
                f"which selects by token ids"
            )
        if (router == "direct") != (instance is not None):
            raise InvalidConfigError(
                '"options.instance" of the configuration and "cluster.router": "direct" require each other'
            )
        self._path = self._settings.full_path(self._options.endpoint)
        self._client: Any = None
        self._opening = asyncio.Lock()

    async def start(self) -> None:
        """Connects. Instances may join later."""
        self._connection = await acquire(self._settings)
        self._unsubscribe = self._connection.subscribe(self._on_event)

    async def stop(self) -> None:
        """Disconnects."""
        self._unsubscribe()
        await self._connection.release()

    def describe(self) -> ModelInfo:
        """Describes the endpoint."""
        return {"capabilities": ["data"], "path": self._path}

    def _on_event(self, event: Event) -> None:
        self._client = None  # its runtime has ended

    async def _open(self) -> Any:
        """Returns Dynamo's client of the endpoint, which has had some time to discover instances."""
        async with self._opening:
            while self._client is None:
                runtime = await self._connection.wait()
                mode = mode_of_endpoint(self._connection.core, self._settings.router)
                # An endpoint may be silent for any time, unless the configuration says otherwise.
                is_limited = self._settings.timeouts.stall_ms is not None
                with contextlib.nullcontext() if is_limited else timeouts.unlimited_silence():
                    client = await runtime.endpoint(self._path).client(mode)
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(client.wait_for_instances(), _discovery_time)
                # The connection may have been lost meanwhile.
                if self._connection.is_connected and self._connection.runtime is runtime:
                    self._client = client
            return self._client

    async def _ready_client(self) -> Any:
        """Returns the client, once it knows an instance."""
        seconds = self._options.wait_for_instance_ms / 1000
        client = self._client
        if client is None:
            client = await asyncio.wait_for(self._open(), max(seconds, _open_timeout))
        if not client.instance_ids():
            await asyncio.wait_for(client.wait_for_instances(), seconds)
        return client

    async def generate(self, request: DataRequest) -> AsyncIterator[Any]:
        """Calls the endpoint. Leaving it early cancels the request."""
        try:
            client = await self._ready_client()
        except asyncio.TimeoutError:
            milliseconds = self._options.wait_for_instance_ms
            raise UnavailableError(
                f"no instance served {self._path} in {self._settings.address} for {milliseconds} ms "
                f'("options.wait_for_instance_ms" of the configuration)'
            ) from None
        async with remote_call(self._connection.core, request.id, None, request.remaining()) as call:
            seconds = self._options.wait_for_instance_ms / 1000
            instance = self._options.instance
            async for item in await call.send(client, request.data, instance, seconds, is_repeatable=False):
                yield item
            call.is_complete = True
