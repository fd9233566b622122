# SPDX-License-Identifier: Apache-2.0
"""A model of a cluster whose workers take OpenAI request bodies."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from dynamo_llm.errors import UnavailableError
from dynamo_llm.runtime.cluster.client.model_cards import ModelCard
from dynamo_llm.runtime.cluster.client.remote_call import remote_call
from dynamo_llm.runtime.engine import Chunk, EngineRequest, ModelInfo
from dynamo_llm.runtime.openai_chunks import OpenAIChunks

#: Keys of a request that are not sent to the worker.
_local_keys = ("adapter", "traceparent", "tracestate")
#: Names of Dynamo's RouterMode; the modes that route by token ids do not apply here.
_modes = {"random": "Random", "power_of_two": "PowerOfTwoChoices", "least_loaded": "LeastLoaded"}

#: Seconds for a new client to discover a worker.
_discovery_timeout = 5.0


class TextModel:
    """Sends requests to the workers of one endpoint.

    :param core: the module ``dynamo._core``.
    :param card: of one of its workers.
    :param client: Dynamo's client of the endpoint.
    """

    def __init__(self, core: Any, card: ModelCard, client: Any) -> None:
        self._core = core
        self._client = client
        self.card = card
        """What its workers registered."""

    @classmethod
    async def open(cls, core: Any, runtime: Any, card: ModelCard, router: str) -> "TextModel":
        """Connects to the workers of a model.

        :param runtime: Dynamo's DistributedRuntime.
        :param router: as in the settings; ``kv`` and ``direct`` mean ``round_robin``.
        """
        mode = getattr(core.RouterMode, _modes.get(router, "RoundRobin"))
        return cls(core, card, await runtime.endpoint(card.endpoint).client(mode))

    async def _wait_for_worker(self) -> None:
        """Waits until the client knows a worker; a new client may not yet."""
        try:
            await asyncio.wait_for(self._client.wait_for_instances(), _discovery_timeout)
        except asyncio.TimeoutError:
            raise UnavailableError(
                f'no worker of the model "{self.card.name}" serves {self.card.endpoint}'
            ) from None

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
        deltas = OpenAIChunks(body.get("n") or 1)
        async with remote_call(self._core, request.id, trace, request.remaining()) as call:
            await self._wait_for_worker()
            client, context = self._client, call.context
            opening = (
                client.generate(body, annotated=False, context=context)
                if instance is None
                else client.direct(body, instance, annotated=False, context=context)
            )
            async for event in await call.open(opening):
                for chunk in deltas.feed(event):
                    yield chunk
            call.end()
            for chunk in deltas.end():
                yield chunk
