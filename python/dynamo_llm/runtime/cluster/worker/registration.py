# SPDX-License-Identifier: Apache-2.0
"""A worker's entries in a cluster's discovery: its endpoint and its model."""

import asyncio
import contextlib
import functools
import logging
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from dynamo_llm.errors import InvalidConfigError, UnavailableError
from dynamo_llm.runtime import model_files
from dynamo_llm.runtime.cluster import listening_socket
from dynamo_llm.runtime.cluster.client.router_config import router_config
from dynamo_llm.runtime.cluster.connection import Connection
from dynamo_llm.runtime.cluster.worker.config import ModelConfig, model_types
from dynamo_llm.runtime.cluster.worker.runtime_config import runtime_config
from dynamo_llm.runtime.secret import shown_value
from dynamo_llm.runtime.threads import in_thread

_log = logging.getLogger("dynamo_llm.worker")

#: The default of ``model.needs``.
_needs = {"prefill": [["decode"]], "decode": [["prefill"]]}
#: Seconds for a served endpoint to be listed.
_timeout = 10.0


@dataclass(frozen=True)
class RegisteredModel:
    """A model as the cluster's discovery gets it."""

    name: str
    path: str | None
    """Its folder; None if frontends need none of its files."""
    takes_tokens: bool
    context_length: int | None
    config: ModelConfig


class Registration:
    """Serves an endpoint once; to serve it again, create another one.

    :param model: None for a raw engine.
    :param payload: a request that Dynamo may send to test whether the worker works.
    :param adapters: names of the engine's LoRA adapters, each a model of its own for clients.
    """

    def __init__(
        self,
        connection: Connection,
        path: str,
        model: RegisteredModel | None,
        payload: dict[str, Any] | None,
        adapters: Sequence[str] = (),
    ) -> None:
        self._core = connection.core
        self._folder = connection.settings.path
        self._runtime = connection.runtime
        self._model = model
        self._payload = payload
        self._path = path
        # Not shared: Dynamo serves each of these objects only once.
        self.endpoint: Any = self._runtime.endpoint(path)
        """Dynamo's."""
        self.instance_id: int = self.endpoint.connection_id()
        """The worker's id in the cluster."""
        self._serving: asyncio.Future[None] | None = None
        self._register_adapter: Any = None
        self._is_listed = False
        self._adapters = list(adapters)
        self._listed_adapters: list[str] = []
        self._listing_adapters = asyncio.Lock()

    async def enter(self, handler: Callable[[Any, Any], Any]) -> None:
        """Serves; returns once the endpoint is listed.

        :raises UnavailableError: the discovery refuses it.
        """
        self._serving = asyncio.ensure_future(
            self.endpoint.serve_endpoint(handler, graceful_shutdown=True, health_check_payload=self._payload)
        )
        try:
            await asyncio.wait_for(self._listed(), _timeout)
            self._is_listed = True
            if self._model is not None:
                await self._register(self._model)
        except BaseException as error:  # also if cancelled: the connection may be shared, and outlive this
            await self.end()
            if isinstance(error, asyncio.TimeoutError):
                raise UnavailableError(
                    f"the endpoint {self._path} was not listed within {_timeout:.0f} seconds"
                ) from None
            if isinstance(error, InvalidConfigError) or not isinstance(error, Exception):
                raise
            raise UnavailableError(f"the endpoint {self._path} could not be registered: {error}") from error

    async def _listed(self) -> None:
        client = await self._runtime.endpoint(self._path).client()
        while self.instance_id not in client.instance_ids():
            assert self._serving is not None
            if self._serving.done():
                self._serving.result()
                raise UnavailableError(f"the endpoint {self._path} ended immediately")
            await asyncio.sleep(0.02)
        for instance in client.instances():
            if instance.instance_id == self.instance_id and instance.transport.kind == "tcp":
                await in_thread(listening_socket.send_at_once, instance.transport.address)

    def was_removed(self) -> bool:
        """Whether the entry in the folder of the discovery ``file`` is gone; the worker has not left."""
        folder = Path(self._folder, "v1", "instances")
        own = f"/{self.instance_id:x}"
        return not any(unquote(file.name).endswith(own) for file in folder.glob("*"))

    async def leave(self) -> None:
        """Leaves the discovery; requests in flight continue. May be called again."""
        if self._is_listed:
            self._is_listed = False
            await self.endpoint.unregister_endpoint_instance()
            if self._model is not None:
                await self._unregister(self._listed_adapters)
                await self._core.unregister_model(self.endpoint)

    async def hide(self, is_hidden: bool) -> None:
        """Hides the worker from clients, or shows it again; the model stays listed."""
        if is_hidden:
            await self.endpoint.unregister_endpoint_instance()
        else:
            await self.endpoint.register_endpoint_instance()
        self._runtime.set_health_status(not is_hidden)

    async def end(self) -> None:
        """Stops serving; to be called after :meth:`leave`, when no request is in flight."""
        with contextlib.suppress(Exception):  # the connection may be lost, and the entries with it
            await self.leave()
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)

    async def _register(self, model: RegisteredModel) -> None:
        if model.path is not None:  # Dynamo opens the files there unchecked
            path = Path(model.path).expanduser()
            folder = path if path.is_dir() else path.parent
            await asyncio.get_running_loop().run_in_executor(None, model_files.check_folder, folder)
        core, config = self._core, model.config
        if config.role == "prefill":
            kind = core.ModelType.Prefill
        else:
            kinds = (getattr(core.ModelType, model_types[kind]) for kind in config.types)
            kind = functools.reduce(operator.or_, kinds)
        needs = config.needs if config.needs is not None else _needs.get(config.role, [])
        router = config.router and router_config(
            core, config.router, config.router_options, "model.router_options"
        )
        place = model.path or model.name
        shared: dict[str, Any] = {
            "worker_type": getattr(core.WorkerType, config.role.capitalize()),
            "needs": [[getattr(core.WorkerType, role.capitalize()) for role in one] for one in needs],
            "kv_cache_block_size": config.kv_block_size,
            "router_config": router,
            "runtime_config": runtime_config(core, config, model.context_length),
            "custom_template_path": config.chat_template
            and str(Path(config.chat_template).expanduser().absolute()),
            "self_host_metadata": config.self_host_metadata or None,
            "ignore_weights": True,
            "skip_model_assets": model.path is None,
            "max_gpu_lora_count": config.max_gpu_lora_count,
        }
        takes = core.ModelInput.Tokens if model.takes_tokens else core.ModelInput.Text
        self._register_adapter = functools.partial(
            core.register_model, takes, kind, self.endpoint, place, base_model_path=place, **shared
        )
        await core.register_model(
            takes,
            kind,
            self.endpoint,
            place,
            model.name,
            user_data=config.user_data or None,
            model_aliases=config.aliases or None,
            **shared,
        )
        await self.list_adapters(self._adapters)

    async def list_adapters(self, adapters: Sequence[str]) -> None:
        """Registers the LoRA adapters that are not registered yet, and removes those that are gone."""
        if self._model is None:
            return
        async with self._listing_adapters:
            await self._unregister([name for name in self._listed_adapters if name not in adapters])
            for name in adapters:
                if name not in self._listed_adapters and self._is_listed:
                    data = {"lora_adapter": True, "lora_id": self._core.lora_name_to_id(name)}
                    await self._register_adapter(
                        lora_name=name, user_data={**self._model.config.user_data, **data}
                    )
                    self._listed_adapters.append(name)

    async def _unregister(self, adapters: Sequence[str]) -> None:
        for name in list(adapters):
            self._listed_adapters.remove(name)
            await self._core.unregister_model(self.endpoint, name)


def check_parsers(core: Any, config: ModelConfig) -> None:
    """Checks that Dynamo has the configured parsers.

    :raises InvalidConfigError: it does not; the message lists the known ones.
    """
    for key, names in (
        ("tool_call_parser", core.get_tool_parser_names),
        ("reasoning_parser", core.get_reasoning_parser_names),
    ):
        value = getattr(config, key)
        if value is not None and value not in (known := names()):
            raise InvalidConfigError(
                f'"model.{key}" of the configuration must be one of {", ".join(sorted(known))}, not '
                f"{shown_value(value)}"
            )
