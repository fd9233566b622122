# SPDX-License-Identifier: Apache-2.0
"""A model of a cluster whose workers take token ids."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Literal

from dynamo_llm.errors import EngineFailedError
from dynamo_llm.runtime.cluster.errors import error_of
from dynamo_llm.runtime.cluster.probe import Pauses
from dynamo_llm.runtime.cluster.request import from_dynamo, to_dynamo
from dynamo_llm.runtime.cluster.stream import drain
from dynamo_llm.runtime.engine import ModelInfo, TokenChunk, TokenRequest

#: The key of a request's metadata that has the seconds until its deadline.
DEADLINE = "dynamo-llm-deadline-seconds"

#: Seconds that a request waits for a worker that Dynamo has put aside. It does so for 5 seconds with one that
#: failed in a way that looks as if it were ending.
_aside = 6.0


class TokenModel:
    """Sends requests through Dynamo's router, which also moves a request whose worker dies to another one.

    :param core: the module ``dynamo._core``.
    :param card: the ModelDeploymentCard.
    :param routed: the RoutedEngine.
    """

    kind: Literal["tokens"] = "tokens"

    def __init__(self, core: Any, card: Any, routed: Any) -> None:
        self._core = core
        self._routed = routed
        self._name = card.name()
        self._info = _info(json.loads(card.to_json_str()), card.local_dir())

    def describe(self) -> ModelInfo:
        """What its card says."""
        return self._info

    async def generate(self, request: TokenRequest) -> AsyncIterator[TokenChunk]:
        """Answer one choice. When it is left early, the worker is told."""
        context = self._core.Context(id=request.id, metadata=metadata(request.trace, request.remaining()))
        has_ended = False
        stream = None
        try:
            stream = await self._send(to_dynamo(request, self._name), context)
            async for item in stream:
                if item.is_error():
                    raise EngineFailedError("; ".join(item.comments() or ["the worker failed"]))
                given = item.data()
                if given is None:  # an event or a comment
                    continue
                chunk = from_dynamo(given, request.logprobs)
                if "finish_reason" in chunk:
                    has_ended = True
                    drain(stream)
                if has_ended or chunk["token_ids"]:
                    yield chunk
                if has_ended:
                    return
            raise EngineFailedError("the worker ended the answer without a finish_reason")
        except Exception as error:
            known = error_of(error)
            if known is error:
                raise
            raise known from error
        finally:
            if not has_ended:
                context.stop_generating()
            del stream  # without it the worker is stopped at once, too

    async def _send(self, request: dict[str, Any], context: Any) -> Any:
        """Send a request; waits while Dynamo has put all workers aside."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _aside
        pauses = Pauses(0.1, 1.0)
        while True:
            try:
                return await self._routed.generate(request, context=context)
            except Exception as error:
                if "No workers available" not in str(error) or loop.time() >= end:
                    raise
            await asyncio.sleep(pauses.take())


def metadata(trace: dict[str, str] | None, remaining: float | None) -> dict[str, str]:
    """What travels with a request, for the worker: the trace context, and the seconds until the deadline."""
    said = dict(trace or {})
    if remaining is not None:
        said[DEADLINE] = f"{remaining:.3f}"
    return said


def _info(card: dict[str, Any], folder: str) -> ModelInfo:
    info: ModelInfo = {
        "path": card.get("source_path") or folder,
        "tokenizer": folder,
        "capabilities": [
            "logprobs",
            "seed",
            "json_schema",
            "regex",
            "grammar",
            "choice",
            "priority",
            "routing",
        ],
    }
    said = (card.get("runtime_config") or {}).get("context_length") or card.get("context_length")
    if said:
        info["context_length"] = said
    return info
