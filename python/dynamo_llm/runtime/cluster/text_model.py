# SPDX-License-Identifier: Apache-2.0
"""A model of a cluster whose workers take OpenAI's bodies."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from dynamo_llm.errors import UnavailableError
from dynamo_llm.runtime.cluster.cards import Card
from dynamo_llm.runtime.cluster.errors import error_of
from dynamo_llm.runtime.cluster.token_model import metadata
from dynamo_llm.runtime.deltas import Deltas
from dynamo_llm.runtime.engine import Chunk, EngineRequest, ModelInfo

#: Keys of a request that the worker does not get.
_own = ("adapter", "traceparent", "tracestate")
#: Names of RouterMode for :meth:`Endpoint.client`; without token ids there is no routing by them.
_modes = {"random": "Random", "power_of_two": "PowerOfTwoChoices", "least_loaded": "LeastLoaded"}

#: Seconds until a client must know the workers.
_patience = 5.0


class TextModel:
    """Sends requests to the workers of one endpoint.

    :param core: the module ``dynamo._core``.
    :param card: of one of its workers.
    :param client: Dynamo's client of the endpoint.
    """

    def __init__(self, core: Any, card: Card, client: Any) -> None:
        self._core = core
        self._client = client
        self.card = card
        """What its workers say of it."""

    @classmethod
    async def open(cls, core: Any, runtime: Any, card: Card, router: str) -> "TextModel":
        """Find its workers.

        :param runtime: Dynamo's DistributedRuntime.
        :param router: as in the settings; ``kv`` and ``direct`` are as ``round_robin``.
        """
        mode = getattr(core.RouterMode, _modes.get(router, "RoundRobin"))
        return cls(core, card, await runtime.endpoint(card.endpoint).client(mode))

    async def _workers(self) -> None:
        """Wait until its client knows of a worker: a client that was just made may not yet."""
        try:
            await asyncio.wait_for(self._client.wait_for_instances(), _patience)
        except asyncio.TimeoutError:
            raise UnavailableError(
                f'no worker of the model "{self.card.name}" is at {self.card.endpoint}'
            ) from None

    def describe(self) -> ModelInfo:
        """What its card says."""
        names = {"Chat": "chat", "Completions": "completion", "Embedding": "embedding"}
        info: ModelInfo = {"capabilities": [name for kind, name in names.items() if kind in self.card.kinds]}
        if length := self.card.content.get("context_length"):
            info["context_length"] = length
        return info

    async def generate(self, request: EngineRequest) -> AsyncIterator[Chunk]:
        """Answer a chat or a completion. When it is left early, the worker is told."""
        body = {key: value for key, value in request.body.items() if key not in _own and value is not None}
        body |= {"model": self.card.name, "stream": True, "stream_options": {"include_usage": True}}
        trace = {key: request.body[key] for key in ("traceparent", "tracestate") if request.body.get(key)}
        context = self._core.Context(id=request.id, metadata=metadata(trace, request.remaining()))
        instance = (body.get("nvext") or {}).get("backend_instance_id")
        deltas = Deltas(body.get("n") or 1)
        has_ended = False
        stream = None
        try:
            await self._workers()
            if instance is None:
                stream = await self._client.generate(body, annotated=False, context=context)
            else:
                stream = await self._client.direct(body, instance, annotated=False, context=context)
            async for event in stream:
                for chunk in deltas.feed(event):
                    yield chunk
            has_ended = True
            for chunk in deltas.end():
                yield chunk
        except Exception as error:
            known = error_of(error)
            if known is error:
                raise
            raise known from error
        finally:
            if not has_ended:
                context.stop_generating()
            del stream  # without it the worker is stopped at once, too
