# SPDX-License-Identifier: Apache-2.0
"""The engine behind the C interface's routers: selects workers for requests that the caller sends itself."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from dynamo_llm.errors import InvalidConfigError, NotSupportedError
from dynamo_llm.runtime import options
from dynamo_llm.runtime.cluster import connection, dynamo_import
from dynamo_llm.runtime.cluster.router.cluster import ClusterRouter
from dynamo_llm.runtime.cluster.router.dynamo_options import construct
from dynamo_llm.runtime.cluster.router.model_card import folder_of, wait_for_card
from dynamo_llm.runtime.cluster.router.reservations import Worker
from dynamo_llm.runtime.cluster.router.router_calls import RouterCalls
from dynamo_llm.runtime.cluster.router.routing_request import RoutingRequest
from dynamo_llm.runtime.cluster.router.selection import RANK, Selection
from dynamo_llm.runtime.cluster.router.static import StaticRouter
from dynamo_llm.runtime.cluster.settings import Settings
from dynamo_llm.runtime.engine import DataRequest, EngineConfig
from dynamo_llm.runtime.options import between
from dynamo_llm.runtime.pipeline.model_folder import ModelFolder
from dynamo_llm.runtime.pipeline.prompt import Prompts
from dynamo_llm.runtime.threads import in_thread


@dataclass(frozen=True)
class Options:
    """The keys of a router's configuration."""

    cluster: dict[str, Any] | None = field(default=None, repr=False)
    """The cluster of the workers; None: a static router."""
    endpoint: str | None = None
    """Endpoint of the workers that answer: ``namespace.component.endpoint``, or without the namespace."""
    prefill_endpoint: str | None = None
    """Endpoint of the workers that only prefill; for the mode ``disaggregated``."""
    mode: Literal["aggregated", "disaggregated"] = "aggregated"
    """Whether the same worker computes the prompt and the answer."""
    kv_block_size: Annotated[int, between(1, 1 << 20)] | None = None
    """Tokens per KV block; None: that of the first worker's model, which the start waits for."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of Dynamo's ``KvRouterConfig`` or, without a cluster, its ``SelectionService``."""
    model: str | None = None
    """Folder with tokenizer and template for request bodies; None: the files that the workers' card names."""
    workers: list[dict[str, Any]] | None = None
    """Without a cluster: the first workers, as for ``dynamo_router_upsert_worker()``."""
    wait_for_workers_ms: Annotated[int, between(0, 10**9)] = 10000
    """How long to wait for a worker whose model must be known, in milliseconds."""
    python: dict[str, Any] = field(default_factory=dict)
    """Read by the library, like the next two: see :class:`EngineConfig`."""
    trust_request_chat_template: bool = False
    templates: dict[str, Any] = field(default_factory=dict)


class RouterEngine:
    """A router.

    What a gateway does for each request arrives as calls (:meth:`execute`). Its requests are the other
    commands, each answered by one item; a command is an object with one key:

    - ``select``: ``{"body": {...}}``, an OpenAI request body, with the optional keys of a
      :class:`RoutingRequest`, ``phase`` (``all``, ``prefill``, ``decode``), and ``request_id``, which also
      reserves the request;
    - ``loads``, ``overlaps``: as ``select``, with ``token_ids`` instead of ``body``;
    - ``workers``, ``upsert_worker``, ``delete_worker``.
    """

    kind: Literal["data"] = "data"

    def __init__(self, config: EngineConfig) -> None:
        self._templates = config.templates
        self._options = given = options.read(Options, config.options, "")
        self._settings = None if given.cluster is None else Settings.read(given.cluster)
        if self._settings is not None:
            _check_cluster_router(given)
        elif given.endpoint is not None or given.prefill_endpoint is not None:
            key = "endpoint" if given.endpoint is not None else "prefill_endpoint"
            raise InvalidConfigError(
                f'"{key}" of the configuration requires "cluster"; a router without it takes "workers"'
            )
        elif given.kv_block_size is None:
            raise InvalidConfigError(
                '"kv_block_size" of the configuration is missing; a router without "cluster" requires it'
            )
        self._router: ClusterRouter | StaticRouter
        self._prompts: Prompts | None = None
        self._prompts_lock = asyncio.Lock()
        self._commands: dict[str, Callable[[Any], Any]] = {
            "select": self._select_body,
            "loads": lambda given: self._rows(self._router.loads, given),
            "overlaps": lambda given: self._rows(self._router.overlaps, given),
            "workers": lambda given: self._router.workers(),
            "upsert_worker": lambda given: self._router.upsert_worker(given),  # noqa: PLW0108 (a later one)
            "delete_worker": lambda given: self._router.delete_worker(given["worker_id"]),
        }

    async def start(self) -> None:
        """Creates the router; joins the cluster, if there is one."""
        given = self._options
        if given.model is not None:
            folder = given.model
            self._prompts = await in_thread(lambda: Prompts.of(ModelFolder(folder), self._templates))
        if self._settings is not None:
            await self._join(self._settings)
            return
        assert given.kv_block_size is not None
        self._block_size = given.kv_block_size
        router = StaticRouter(given.mode == "disaggregated", given.kv_block_size, given.options)
        try:
            for worker in given.workers or []:
                await router.upsert_worker(worker)
        except BaseException:
            await router.close()
            raise
        self._open(router)

    async def _join(self, settings: Settings) -> None:
        given = self._options
        config = construct(dynamo_import.import_core().KvRouterConfig, given.options)
        assert given.endpoint is not None
        paths = {"decode": settings.full_path(given.endpoint)}
        if given.prefill_endpoint:
            paths["prefill"] = settings.full_path(given.prefill_endpoint)
        self._path = paths["decode"]
        self._connection = await connection.acquire(settings)
        try:
            self._block_size = given.kv_block_size or (await self._card())["kv_cache_block_size"]
            self._open(ClusterRouter(self._connection, paths, self._block_size, config))
        except BaseException:
            await self._connection.release()
            raise

    def _open(self, router: ClusterRouter | StaticRouter) -> None:
        self._router = router
        self._calls = RouterCalls(
            (self._select, self._reserve, router.prefill_complete, router.output_block, router.free)
        )

    def describe(self) -> dict[str, Any]:
        """Returns what ``dynamo_router_info()`` describes."""
        where = {} if self._settings is None else {"endpoint": self._path}
        return {"mode": self._options.mode, "kv_block_size": self._block_size, **where}

    async def generate(self, request: DataRequest) -> AsyncIterator[Any]:
        """Executes a command."""
        ((command, given),) = request.data.items()
        answer = await self._commands[command](given)
        yield {} if answer is None else answer

    def execute(self, calls: list[Any]) -> None:
        """Executes calls of the library: those of :class:`RouterCalls`."""
        self._calls.execute(calls)

    async def stop(self) -> None:
        """Closes the router."""
        await self._router.close()

    # --------------------------------------------------------------------------------------- calls

    async def _select(
        self, request_id: str | None, token_ids: list[int], options: dict[str, Any] | None
    ) -> Selection:
        request, phase = _read(token_ids, options)
        return await self._router.select(request, phase, request_id)

    async def _reserve(
        self,
        request_id: str,
        token_ids: list[int],
        options: dict[str, Any] | None,
        decode: Worker | None,
        prefill: Worker | None,
    ) -> None:
        request, _ = _read(token_ids, options)
        await self._router.reserve(request_id, request, decode, prefill)

    # ------------------------------------------------------------------------------------ commands

    async def _select_body(self, given: dict[str, Any]) -> dict[str, Any]:
        request = RoutingRequest.of_command(given, [])
        request = replace(request, token_ids=await (await self._body_prompts()).ids(given["body"]))
        selection = await self._router.select(request, given["phase"], given.get("request_id"))
        return {**selection.result(), "token_ids": request.token_ids}

    async def _rows(self, method: Any, given: dict[str, Any]) -> list[dict[str, Any]]:
        """Returns Dynamo's rows, with the key ``data_parallel_rank`` in place of its ``dp_rank``."""
        rows = await method(RoutingRequest.of_command(given, given["token_ids"]), given["phase"])
        return [{RANK if key == "dp_rank" else key: value for key, value in row.items()} for row in rows]

    async def _body_prompts(self) -> Prompts:
        """Returns what converts bodies to token ids."""
        async with self._prompts_lock:
            if self._prompts is None:
                if self._settings is None:
                    raise NotSupportedError(
                        'to route request bodies, the router requires "model" in its configuration, a folder '
                        "with a tokenizer; without it the router only takes token ids"
                    )
                card = await self._card()
                self._prompts = await in_thread(lambda: Prompts.of(folder_of(card), self._templates))
            return self._prompts

    async def _card(self) -> dict[str, Any]:
        """Returns the card of the workers' model."""
        return await wait_for_card(self._connection.runtime, self._path, self._options.wait_for_workers_ms)


def _read(token_ids: list[int], options: dict[str, Any] | None) -> tuple[RoutingRequest, str]:
    """Returns the request and the phase of a call with options; None: none is set."""
    if options is None:
        return RoutingRequest(token_ids), "all"
    if "constraints" in options:
        options["constraints"] = json.loads(options["constraints"])
    return RoutingRequest.of_command(options, token_ids), options.get("phase", "all")


def _check_cluster_router(given: Options) -> None:
    if given.workers is not None:
        raise InvalidConfigError(
            '"workers" and "cluster" of the configuration exclude each other: the workers of a cluster '
            "register in its discovery"
        )
    if given.endpoint is None:
        raise InvalidConfigError(
            '"endpoint" of the configuration is missing; set it to one like "dynamo.backend.generate"'
        )
    if (given.mode == "disaggregated") != (given.prefill_endpoint is not None):
        raise InvalidConfigError(
            '"prefill_endpoint" and the "mode" "disaggregated" of the configuration require each other, and '
            "one of them is missing"
        )
