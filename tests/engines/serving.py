# SPDX-License-Identifier: Apache-2.0
"""Serves a model to a cluster that answers each request with the worker's id; for tests of routers."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Literal

from dynamo_llm.runtime.cluster import connection
from dynamo_llm.runtime.cluster.settings import Settings
from dynamo_llm.runtime.engine import DataRequest, EngineConfig

#: The roles that a worker with a role needs beside it.
_partners = {"Prefill": ("Decode",), "Decode": ("Prefill",)}


class Serving:
    """A raw engine that is not used by itself: it serves other processes of the cluster.

    Options: ``cluster``, ``endpoint``, ``model`` (a folder), ``type`` (a name of Dynamo's WorkerType).
    """

    kind: Literal["data"] = "data"

    def __init__(self, config: EngineConfig) -> None:
        self._options = config.options

    async def start(self) -> None:
        self._connection = await connection.acquire(Settings.read(self._options["cluster"]))
        self._forget = self._connection.subscribe(self._on_connection)
        await self._serve()

    def _on_connection(self, event: connection.Event) -> None:
        if event == "restored":
            self._again = asyncio.ensure_future(self._serve())

    async def _serve(self) -> None:
        core = self._connection.core
        self._endpoint = self._connection.runtime.endpoint(self._options["endpoint"])
        self._id = self._endpoint.connection_id()
        limits = core.ModelRuntimeConfig()
        limits.total_kv_blocks = 1000
        limits.max_num_seqs = 16
        limits.max_num_batched_tokens = 2048
        kind = getattr(core.WorkerType, self._options["type"])
        of = core.ModelType.Prefill if self._options["type"] == "Prefill" else core.ModelType.Chat
        await core.register_model(
            core.ModelInput.Tokens,
            of,
            self._endpoint,
            self._options["model"],
            "routed",
            worker_type=kind,
            needs=[[getattr(core.WorkerType, name)] for name in _partners.get(self._options["type"], ())],
            kv_cache_block_size=16,
            runtime_config=limits,
        )
        self._serving = asyncio.ensure_future(self._endpoint.serve_endpoint(self._answer))

    async def _answer(self, request: Any) -> AsyncIterator[dict[str, Any]]:
        yield {"token_ids": [1], "index": 0, "finish_reason": "stop"}

    def describe(self) -> dict[str, Any]:
        return {"worker_id": self._id}

    async def generate(self, request: DataRequest) -> AsyncIterator[Any]:
        yield {"worker_id": self._id}

    async def stop(self) -> None:
        self._forget()
        self._serving.cancel()
        await self._connection.release()
