# SPDX-License-Identifier: Apache-2.0
"""A model of a cluster whose workers take OpenAI request bodies."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from dynamo_llm.errors import UnavailableError
from dynamo_llm.runtime.cluster.client.model_cards import ModelCard
from dynamo_llm.runtime.cluster.client.remote_call import remote_call
from dynamo_llm.runtime.cluster.client.router_mode import mode_of_endpoint
from dynamo_llm.runtime.cluster.settings import Router
from dynamo_llm.runtime.engine import Chunk, EngineRequest, ModelInfo
from dynamo_llm.runtime.openai_chunks import OpenAIChunks

#: Keys of a request that are not sent to the worker.
_local_keys = ("adapter", "task", "traceparent", "tracestate")
#: Seconds for a new client to discover a worker.
_discovery_timeout = 5.0


class TextModel:
    """Sends requests to the workers of one endpoint through Dynamo's client. Created by :meth:`open`."""

    def __init__(self, core: Any, card: ModelCard, client: Any, wait: float) -> None:
        self._core = core
        self._client = client
        self._wait = wait
        self.card = card
        """The card of one of its workers."""

    @classmethod
    async def open(cls, core: Any, runtime: Any, card: ModelCard, router: Router, wait: float) -> "TextModel":
        """Connects to the workers of a model.

        :param core: the module ``dynamo._core``.
        :param runtime: Dynamo's DistributedRuntime.
        :param wait: seconds that a request waits while no worker receives it.
        """
        mode = mode_of_endpoint(core, router)
        return cls(core, card, await runtime.endpoint(card.endpoint).client(mode), wait)

    def describe(self) -> ModelInfo:
        """Describes the model by its card."""
        names = {"Chat": "chat", "Completions": "completion", "Embedding": "embedding"}
        info: ModelInfo = {"capabilities": [name for kind, name in names.items() if kind in self.card.kinds]}
        if length := self.card.content.get("context_length"):
            info["context_length"] = length
        return info

    async def generate(self, request: EngineRequest) -> AsyncIterator[Chunk]:
        """Answers a chat or a completion. Leaving it early cancels the request."""
        body = {
            key: value for key, value in request.body.items() if key not in _local_keys and value is not None
        }
        body |= {"model": self.card.name, "stream": True, "stream_options": {"include_usage": True}}
        trace = {key: request.body[key] for key in ("traceparent", "tracestate") if request.body.get(key)}
        instance = (body.get("nvext") or {}).get("backend_instance_id")
        deltas = OpenAIChunks(request.choices)
        async with remote_call(self._core, request.id, trace, request.remaining()) as call:
            try:  # a new client may not know a worker yet
                await asyncio.wait_for(self._client.wait_for_instances(), _discovery_timeout)
            except asyncio.TimeoutError:
                raise UnavailableError(
                    f'no worker of the model "{self.card.name}" serves {self.card.endpoint}'
                ) from None
            async for event in await call.send(self._client, body, instance, self._wait, is_repeatable=True):
                for chunk in deltas.feed(event):
                    yield chunk
            call.is_complete = True
            for chunk in deltas.end():
                yield chunk
