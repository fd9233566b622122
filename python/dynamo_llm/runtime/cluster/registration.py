# SPDX-License-Identifier: Apache-2.0
"""A worker's entries in the discovery of a cluster: its endpoint, and its model."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamo_llm.errors import InvalidConfigError, UnavailableError
from dynamo_llm.runtime.cluster.connection import Connection
from dynamo_llm.runtime.cluster.worker_config import ModelConfig, types

_log = logging.getLogger("dynamo_llm.worker")

#: Seconds until an endpoint that is served must be listed.
_patience = 10.0


@dataclass(frozen=True)
class Card:
    """What the cluster is told of a model."""

    name: str
    path: str | None
    """Its folder; None for a model of which a frontend needs no files."""
    takes_tokens: bool
    context_length: int | None
    config: ModelConfig


class Registration:
    """Serves one endpoint, once. Another time needs another one.

    :param path: ``namespace.component.endpoint``.
    :param card: None for an endpoint of data.
    :param payload: what Dynamo may send to see whether the worker works.
    """

    def __init__(
        self, connection: Connection, path: str, card: Card | None, payload: dict[str, Any] | None
    ) -> None:
        self._core = connection.core
        self._runtime = connection.runtime
        self._card = card
        self._payload = payload
        self._path = path
        # Of its own: Dynamo serves each of these objects once.
        self.endpoint: Any = self._runtime.endpoint(path)
        """Dynamo's."""
        self.instance_id: int = self.endpoint.connection_id()
        """The worker's number in the cluster."""
        self._serving: asyncio.Future[None] | None = None
        self._is_listed = False

    async def enter(self, handler: Callable[[Any, Any], Any]) -> None:
        """Serve, and be listed when this returns.

        :raises UnavailableError: the discovery refused it.
        """
        self._serving = asyncio.ensure_future(
            self.endpoint.serve_endpoint(handler, graceful_shutdown=True, health_check_payload=self._payload)
        )
        try:
            await asyncio.wait_for(self._listed(), _patience)
            self._is_listed = True
            if self._card is not None:
                await self._register(self._card)
        except asyncio.TimeoutError:
            await self.end()
            raise UnavailableError(
                f"the endpoint {self._path} was not listed within {_patience:.0f} seconds"
            ) from None
        except InvalidConfigError:
            await self.end()
            raise
        except Exception as error:
            await self.end()
            raise UnavailableError(f"the endpoint {self._path} could not be registered: {error}") from error
        except BaseException:  # given up meanwhile: the connection may be others', too, and last
            await self.end()
            raise

    async def _listed(self) -> None:
        client = await self._runtime.endpoint(self._path).client()
        while self.instance_id not in client.instance_ids():
            assert self._serving is not None
            if self._serving.done():
                self._serving.result()
                raise UnavailableError(f"the endpoint {self._path} ended at once")
            await asyncio.sleep(0.02)

    async def leave(self) -> None:
        """Be listed no more; requests in flight go on. Again is fine."""
        if self._is_listed:
            self._is_listed = False
            await self.endpoint.unregister_endpoint_instance()
            if self._card is not None:
                await self._core.unregister_model(self.endpoint)

    async def hide(self, is_hidden: bool) -> None:
        """Whether no new requests shall come; the model stays listed."""
        if is_hidden:
            await self.endpoint.unregister_endpoint_instance()
        else:
            await self.endpoint.register_endpoint_instance()
        self._runtime.set_health_status(not is_hidden)

    async def end(self) -> None:
        """Serve no more; after :meth:`leave`, when no request is in flight."""
        with contextlib.suppress(Exception):  # the connection may be lost: there is nothing to leave
            await self.leave()
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)

    async def _register(self, card: Card) -> None:
        core, config = self._core, card.config
        kinds = [getattr(core.ModelType, types[kind]) for kind in config.types]
        kind = kinds[0]
        for one in kinds[1:]:
            kind = kind | one
        if config.role == "prefill":
            kind = core.ModelType.Prefill
        worker_type = getattr(core.WorkerType, config.role.capitalize())
        needs = {"prefill": [[core.WorkerType.Decode]], "decode": [[core.WorkerType.Prefill]]}
        await core.register_model(
            core.ModelInput.Tokens if card.takes_tokens else core.ModelInput.Text,
            kind,
            self.endpoint,
            card.path or card.name,
            card.name,
            worker_type=worker_type,
            needs=needs.get(config.role, []),
            kv_cache_block_size=config.kv_block_size,
            runtime_config=self._runtime_config(card),
            user_data=config.user_data or None,
            custom_template_path=config.chat_template
            and str(Path(config.chat_template).expanduser().absolute()),
            self_host_metadata=config.self_host_metadata or None,
            model_aliases=config.aliases or None,
            ignore_weights=True,
            skip_model_assets=card.path is None,
        )

    def _runtime_config(self, card: Card) -> Any:
        config = card.config
        made = self._core.ModelRuntimeConfig()
        for key in (
            "total_kv_blocks",
            "max_num_seqs",
            "max_num_batched_tokens",
            "data_parallel_size",
            "data_parallel_start_rank",
            "tool_call_parser",
            "reasoning_parser",
        ):
            if (value := getattr(config, key)) is not None:
                setattr(made, key, value)
        if card.context_length is not None:
            made.context_length = card.context_length
        if config.role == "decode":
            made.enable_local_indexer = False  # prompts are looked for at those who read them
        return made


def check_parsers(core: Any, config: ModelConfig) -> None:
    """Whether Dynamo has the parsers.

    :raises InvalidConfigError: it has not; the message lists those it has.
    """
    for key, names in (
        ("tool_call_parser", core.get_tool_parser_names),
        ("reasoning_parser", core.get_reasoning_parser_names),
    ):
        value = getattr(config, key)
        if value is not None and value not in (known := names()):
            raise InvalidConfigError(
                f'"model.{key}" of the configuration must be one of {", ".join(sorted(known))}, not "{value}"'
            )
