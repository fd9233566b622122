# SPDX-License-Identifier: Apache-2.0
"""Engines that reject requests, or fail, as the request selects."""

from collections.abc import AsyncIterator
from typing import Any

from dynamo_llm import InvalidRequestError, OverloadedError, paths
from dynamo_llm.runtime.engine import (
    Chunk,
    DataRequest,
    EngineConfig,
    EngineRequest,
    ModelInfo,
    TokenChunk,
    TokenRequest,
)

#: Texts of requests that select an error.
ways = ("bad", "busy", "broken")


def refuse(text: str) -> None:
    """Raises the requested error."""
    if text == "bad":
        raise InvalidRequestError("that is refused")
    if text == "busy":
        raise OverloadedError("too many guests")
    if text == "broken":
        raise KeyError("a mistake of the engine")


class _Refusing:
    def __init__(self, config: EngineConfig) -> None:
        pass

    def start(self) -> None:
        """Does nothing."""

    def stop(self) -> None:
        """Does nothing."""


class Text(_Refusing):
    """The last message selects the error."""

    async def generate(self, request: EngineRequest) -> AsyncIterator[Chunk]:
        """Echoes the text."""
        text = request.body["messages"][-1]["content"]
        refuse(text)
        yield {"text": text, "finish_reason": "stop"}


class Tokens(_Refusing):
    """The first token selects the error: 1, 2, or 3."""

    kind = "tokens"

    def describe(self) -> ModelInfo:
        """Returns the demo model's tokenizer."""
        return {"tokenizer": str(paths.demo_model_dir()), "context_length": 64}

    async def generate(self, request: TokenRequest) -> AsyncIterator[TokenChunk]:
        """Echoes the first token."""
        first = request.token_ids[0]
        refuse(("", *ways)[first] if first <= len(ways) else "")
        yield {"token_ids": [first], "finish_reason": "stop"}


class Data(_Refusing):
    """The text selects the error."""

    kind = "data"

    async def generate(self, request: DataRequest) -> AsyncIterator[Any]:
        """Echoes the text."""
        refuse(request.data)
        yield request.data
