# SPDX-License-Identifier: Apache-2.0
"""A model of a cluster whose workers are token-level engines."""

import asyncio
import contextlib
import copy
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

from dynamo_llm.errors import DynamoError, EngineFailedError
from dynamo_llm.runtime import model_files
from dynamo_llm.runtime.cluster.client.delivery import deliver
from dynamo_llm.runtime.cluster.client.errors import silence_error
from dynamo_llm.runtime.cluster.client.remote_call import remote_call
from dynamo_llm.runtime.cluster.timeouts import stall_seconds
from dynamo_llm.runtime.cluster.token_protocol import from_dynamo, to_dynamo
from dynamo_llm.runtime.engine import ModelInfo, TokenChunk, TokenRequest
from dynamo_llm.runtime.parser_names import ParserNames

_capabilities = ("logprobs", "seed", "json_schema", "regex", "grammar", "choice", "priority", "routing")


class TokenModel:
    """Sends requests through Dynamo's router, which also migrates a request whose worker dies.

    :param core: the module ``dynamo._core``.
    :param card: Dynamo's ModelDeploymentCard.
    :param routed: Dynamo's RoutedEngine.
    :param moves: how often it may send a request to another worker if one does not begin to answer within
        ``cluster.stall_ms``; None: it waits, because Dynamo's router queues requests itself.
    :param wait: seconds that a request waits while no worker receives it. Dynamo puts a worker aside for 5
        seconds after an error that looks like a shutdown.
    """

    kind: Literal["tokens"] = "tokens"

    def __init__(self, core: Any, card: Any, routed: Any, moves: int | None, wait: float = 0.0) -> None:
        self._core = core
        self._card = card
        self._routed = routed
        self._moves = moves
        self._wait = wait
        self._others: dict[float, TokenModel] = {}
        self._name = card.name()
        self._adapter: str | None = None
        self._with_adapters: dict[str, TokenModel] = {}
        self._info = _info(json.loads(card.to_json_str()), card.local_dir())
        self.vocab_size = _vocab_size(card.local_dir())
        """Exclusive upper limit of its token ids; 0: unknown."""

    def waiting(self, seconds: float) -> "TokenModel":
        """Returns this model for users whose requests wait so long, the same object each time."""
        if seconds not in self._others:
            self._others[seconds] = TokenModel(self._core, self._card, self._routed, self._moves, seconds)
        return self._others[seconds]

    def with_adapter(self, name: str) -> "TokenModel":
        """Returns the model with a LoRA adapter, by its name at the workers; the same object each time."""
        if name not in self._with_adapters:
            model = self._with_adapters[name] = copy.copy(self)
            model._name = model._adapter = name
        return self._with_adapters[name]

    def describe(self) -> ModelInfo:
        """Describes the model by its card."""
        return self._info

    async def generate(self, request: TokenRequest) -> AsyncIterator[TokenChunk]:
        """Answers one choice. Leaving it early cancels the request."""
        async with remote_call(self._core, request.id, request.trace, request.remaining()) as call:
            sent = to_dynamo(request, self._name)
            if self._adapter is not None:
                sent["routing"] = {**(sent["routing"] or {}), "lora_name": self._adapter}
            call.stream = await self._send(sent, call.context)
            async for item in call.stream:
                if item.is_error():
                    raise EngineFailedError("; ".join(item.comments() or ["the worker failed"]))
                given = item.data()
                if given is None:  # an event or a comment
                    continue
                chunk = from_dynamo(given, request.logprobs)
                if "finish_reason" in chunk:
                    call.end_early()
                    yield chunk
                    return
                if chunk["token_ids"]:
                    yield chunk
            raise EngineFailedError("the worker ended the answer without a finish_reason")

    async def _send(self, request: dict[str, Any], context: Any) -> Any:
        """Returns the stream of a worker that has begun to answer. Dynamo limits its silence, but not before:
        the Python threads of a worker may hang when it has acknowledged the request.
        """
        limit = None if self._moves is None else stall_seconds()

        async def send_once() -> Any:
            return await asyncio.wait_for(self._routed.generate(request, context=context), limit)

        for _ in range((self._moves or 0) + 1):
            with contextlib.suppress(asyncio.TimeoutError):
                return await deliver(send_once, self._wait, is_repeatable=True)
        raise silence_error()


def _vocab_size(folder: str) -> int:
    try:
        config = model_files.read_json(Path(folder) / "config.json")
    except DynamoError:
        return 0
    size = (config.get("text_config") or config).get("vocab_size") if isinstance(config, dict) else None
    return size if isinstance(size, int) and size > 0 else 0


def _info(card: dict[str, Any], folder: str) -> ModelInfo:
    info: ModelInfo = {
        "path": card.get("source_path") or folder,
        "tokenizer": folder,
        "capabilities": list(_capabilities),
    }
    lengths = (card.get("runtime_config") or {}).get("context_length"), card.get("context_length")
    length = lengths[0] or lengths[1] or card.get("architectural_max_context_length")
    if length:
        info["context_length"] = length
    parsers = ParserNames.of(card.get("runtime_config") or {})
    if parsers.tool_call:
        info["tool_call_parser"] = parsers.tool_call
    if parsers.reasoning:
        info["reasoning_parser"] = parsers.reasoning
    return info
