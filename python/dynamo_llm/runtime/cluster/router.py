# SPDX-License-Identifier: Apache-2.0
"""What is behind the routers of the C interface: chooses workers for requests that others send."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from dynamo_llm.errors import InvalidConfigError, InvalidRequestError, NotSupportedError
from dynamo_llm.runtime import options
from dynamo_llm.runtime.cluster import connection
from dynamo_llm.runtime.cluster.discovered import DiscoveredRouter
from dynamo_llm.runtime.cluster.endpoint_path import full_path
from dynamo_llm.runtime.cluster.local import LocalRouter
from dynamo_llm.runtime.cluster.selection import Ask
from dynamo_llm.runtime.cluster.settings import Settings
from dynamo_llm.runtime.cluster.worker_card import folder_of, wait_for_card
from dynamo_llm.runtime.engine import DataRequest, EngineConfig
from dynamo_llm.runtime.pipeline.folder import Folder
from dynamo_llm.runtime.pipeline.prompt import Prompts


@dataclass(frozen=True)
class Options:
    """The keys of a router's configuration, beside ``cluster``."""

    endpoint: str | None = None
    """``namespace.component.endpoint`` of the workers that answer, or without the namespace."""
    prefill_endpoint: str | None = None
    """That of the workers that only prefill; for the mode ``disaggregated``."""
    mode: Literal["aggregated", "disaggregated"] = "aggregated"
    """Whether the same worker computes the prompt and the answer."""
    kv_block_size: int | None = None
    """Tokens per KV block; None: what the first worker says of its model, which is waited for."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keywords of Dynamo's ``KvRouterConfig``, or, without a cluster, of its ``SelectionService``."""
    model: str | None = None
    """Folder with tokenizer and template for bodies; None: the files that the workers' model names."""
    workers: list[Any] | None = None
    """Without a cluster: the first workers, as for ``dynamo_router_upsert_worker()``."""
    wait_for_workers_ms: int = 10000
    """How long to wait for a worker where its model must be known."""


class RouterEngine:
    """A router. Its requests are commands, answered by one item each; a command is an object with one key:

    - ``select``: ``{"token_ids": [...]}`` or ``{"body": OpenAI's}``, with the optional keys of an
      :class:`Ask`, ``phase`` (``all``, ``prefill``, ``decode``) and ``request_id``, which books it;
    - ``reserve``: ``{"request_id", "token_ids", "worker_id", "dp_rank", "prefill_worker_id",
      "prefill_dp_rank"}``;
    - ``prefill_complete``, ``free``: ``{"request_id"}``; ``output_block``: with ``decay``, too;
    - ``loads``, ``overlaps``: as ``select``;
    - ``workers``, ``upsert_worker``, ``delete_worker``.
    """

    kind: Literal["data"] = "data"

    def __init__(self, config: EngineConfig) -> None:
        rest = dict(config.options)
        cluster = rest.pop("cluster", None)
        self._options = given = options.read(Options, rest)
        self._settings = None if cluster is None else Settings.read(cluster)
        if self._settings is not None:
            self._check_discovered(given)
        elif given.endpoint is not None or given.prefill_endpoint is not None:
            key = "endpoint" if given.endpoint is not None else "prefill_endpoint"
            raise InvalidConfigError(
                f'"{key}" needs "cluster"; without one a router is told of its "workers"'
            )
        elif given.kv_block_size is None:
            raise InvalidConfigError('"kv_block_size" is missing: without "cluster" nobody says it')
        if given.kv_block_size is not None and given.kv_block_size < 1:
            raise InvalidConfigError(f'"kv_block_size" must be at least 1, not {given.kv_block_size}')
        self._router: DiscoveredRouter | LocalRouter
        self._prompts: Prompts | None = None
        self._prompts_lock = asyncio.Lock()
        self._commands: dict[str, Callable[[Any], Any]] = {
            "select": self._select,
            "reserve": self._reserve,
            "prefill_complete": lambda given: self._router.prefill_complete(given["request_id"]),
            "output_block": lambda given: self._router.output_block(given["request_id"], given["decay"]),
            "free": lambda given: self._router.free(given["request_id"]),
            "loads": self._loads,
            "overlaps": self._overlaps,
            "workers": lambda given: self._router.workers(),
            "upsert_worker": lambda given: self._router.upsert_worker(given),  # noqa: PLW0108 (a later one)
            "delete_worker": lambda given: self._router.delete_worker(given["worker_id"]),
        }

    def _check_discovered(self, given: Options) -> None:
        if given.workers is not None:
            raise InvalidConfigError(
                '"workers" and "cluster" exclude each other: the workers of a cluster are discovered'
            )
        if given.endpoint is None:
            raise InvalidConfigError('"endpoint" is missing; it is like "dynamo.backend.generate"')
        if (given.mode == "disaggregated") != (given.prefill_endpoint is not None):
            raise InvalidConfigError(
                'the "mode" "disaggregated" and "prefill_endpoint" go together, and one of them is missing'
            )

    async def start(self) -> None:
        """Join the cluster, if there is one."""
        given = self._options
        if given.model is not None:
            folder = given.model
            self._prompts = await asyncio.get_running_loop().run_in_executor(
                None, lambda: Prompts.of(Folder(folder))
            )
        if self._settings is not None:
            DiscoveredRouter.check(given.options)
            await self._join(self._settings)
            return
        assert given.kv_block_size is not None
        self._block_size = given.kv_block_size
        self._router = LocalRouter(given.mode == "disaggregated", given.kv_block_size, given.options)
        try:
            for worker in given.workers or []:
                if not isinstance(worker, dict):
                    raise InvalidConfigError('"workers" must be an array of objects')
                await self._router.upsert_worker(worker)
        except BaseException:
            await self._router.close()
            raise

    async def _join(self, settings: Settings) -> None:
        given = self._options
        assert given.endpoint is not None
        self._path = full_path(given.endpoint, settings.namespace)
        prefill = given.prefill_endpoint and full_path(given.prefill_endpoint, settings.namespace)
        self._connection = await connection.acquire(settings)
        try:
            if given.kv_block_size is None:
                card = await wait_for_card(
                    self._connection.runtime.endpoint(self._path), self._path, given.wait_for_workers_ms
                )
                self._block_size = card["kv_cache_block_size"]
            else:
                self._block_size = given.kv_block_size
            self._router = DiscoveredRouter(
                self._connection, (self._path, prefill or None), self._block_size, given.options
            )
        except BaseException:
            await self._connection.release()
            raise

    def describe(self) -> dict[str, Any]:
        """The answer of ``dynamo_router_info()``."""
        where = {} if self._settings is None else {"endpoint": self._path}
        return {"mode": self._options.mode, "kv_block_size": self._block_size, **where}

    async def generate(self, request: DataRequest) -> AsyncIterator[Any]:
        """Answer a command."""
        ((command, given),) = request.data.items()
        answer = await self._commands[command](given)
        yield {} if answer is None else answer

    async def stop(self) -> None:
        """Leave the cluster."""
        await self._router.close()

    # ------------------------------------------------------------------------------------ commands

    async def _select(self, given: dict[str, Any]) -> dict[str, Any]:
        ask = await self._ask(given)
        selection = await self._router.select(ask, given.get("phase", "all"), given.get("request_id"))
        answer = selection.described()
        if "body" in given:
            answer["token_ids"] = ask.token_ids
        return answer

    async def _reserve(self, given: dict[str, Any]) -> None:
        def worker(prefix: str) -> tuple[int, int] | None:
            id = given.get(prefix + "worker_id")
            return None if id is None else (id, given[prefix + "dp_rank"])

        ask = await self._ask(given)
        await self._router.reserve(given["request_id"], ask, worker(""), worker("prefill_"))

    async def _loads(self, given: dict[str, Any]) -> list[dict[str, Any]]:
        return await self._router.loads(await self._ask(given), given.get("phase", "all"))

    async def _overlaps(self, given: dict[str, Any]) -> list[dict[str, Any]]:
        return await self._router.overlaps(await self._ask(given), given.get("phase", "all"))

    async def _ask(self, given: dict[str, Any]) -> Ask:
        body = given.get("body")
        tokens = given.get("token_ids")
        hints = {} if body is None else _hints(body)
        if body is not None:
            tokens = await (await self._bodies()).ids(body)
        workers = given.get("workers")
        named = ("lora_name", "cache_salt", "priority_jump", "strict_priority", "expected_output_tokens")
        said = {key: given[key] for key in named if key in given}
        return Ask(
            token_ids=tokens or [],
            workers=None if workers is None else frozenset(workers),
            **{**hints, **said, **_constraints(given.get("constraints", {}), "constraints")},
        )

    async def _bodies(self) -> Prompts:
        """What makes token ids of bodies."""
        async with self._prompts_lock:
            if self._prompts is None:
                if self._settings is None:
                    raise NotSupportedError(
                        'for bodies the router needs "model" in its configuration, a folder with tokenizer; '
                        "without it it takes token ids"
                    )
                card = await wait_for_card(
                    self._connection.runtime.endpoint(self._path),
                    self._path,
                    self._options.wait_for_workers_ms,
                )
                self._prompts = await asyncio.get_running_loop().run_in_executor(
                    None, lambda: Prompts.of(folder_of(card))
                )
            return self._prompts


def _hints(body: dict[str, Any]) -> dict[str, Any]:
    """What a body's ``nvext`` says to routers, as keywords of an :class:`Ask`."""
    extension = body.get("nvext") or {}
    agent = extension.get("agent_hints") or {}
    if not isinstance(agent, dict):
        raise InvalidRequestError('"nvext.agent_hints" of the request must be an object')
    hints = _constraints(extension.get("routing_constraints") or {}, "nvext.routing_constraints")
    for key, name in (("priority", "priority_jump"), ("strict_priority", "strict_priority")):
        value = agent.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidRequestError(f'"nvext.agent_hints.{key}" of the request must be an integer')
        hints[name] = max(0, value)  # a low priority is none: nobody is put behind those who came later
    if agent.get("osl") is not None:
        hints["expected_output_tokens"] = agent["osl"]
    if extension.get("cache_salt") is not None:
        hints["cache_salt"] = extension["cache_salt"]
    return hints


def _constraints(given: Any, name: str) -> dict[str, Any]:
    """Marks of workers, as keywords of an :class:`Ask`."""
    if not isinstance(given, dict) or set(given) - {"required_taints", "preferred_taints"}:
        raise InvalidRequestError(f'"{name}" must be an object with "required_taints", "preferred_taints"')
    required, preferred = given.get("required_taints") or [], given.get("preferred_taints") or {}
    if not isinstance(required, list) or not all(isinstance(taint, str) for taint in required):
        raise InvalidRequestError(f'"{name}.required_taints" must be an array of strings')
    if not isinstance(preferred, dict) or not all(
        isinstance(weight, int | float) and not isinstance(weight, bool) for weight in preferred.values()
    ):
        raise InvalidRequestError(f'"{name}.preferred_taints" must be an object of numbers')
    return {"required_taints": tuple(required), "preferred_taints": preferred} if given else {}
