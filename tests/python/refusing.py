# SPDX-License-Identifier: Apache-2.0
"""Engines that refuse requests, and fail, by what the request says."""

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

#: Texts of requests, and what comes of each.
ways = ("bad", "busy", "broken")


def refuse(text: str) -> None:
    """Raise what it asks for."""
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
        """Nothing to do."""

    def stop(self) -> None:
        """Nothing to do."""


class Text(_Refusing):
    """Looks at the last message."""

    async def generate(self, request: EngineRequest) -> AsyncIterator[Chunk]:
        """The text again."""
        text = request.body["messages"][-1]["content"]
        refuse(text)
        yield {"text": text, "finish_reason": "stop"}


class Tokens(_Refusing):
    """Looks at the first token: 1, 2 and 3 are the ways."""

    kind = "tokens"

    def describe(self) -> ModelInfo:
        """The demo model's tokenizer."""
        return {"tokenizer": str(paths.demo_model_dir()), "context_length": 64}

    async def generate(self, request: TokenRequest) -> AsyncIterator[TokenChunk]:
        """The first token again."""
        first = request.token_ids[0]
        refuse(("", *ways)[first] if first <= len(ways) else "")
        yield {"token_ids": [first], "finish_reason": "stop"}


class Data(_Refusing):
    """Takes a text."""

    kind = "data"

    async def generate(self, request: DataRequest) -> AsyncIterator[Any]:
        """The text again."""
        refuse(request.data)
        yield request.data
