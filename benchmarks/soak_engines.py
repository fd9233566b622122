# SPDX-License-Identifier: Apache-2.0
"""Engines in Python for the soak test."""

import asyncio
from collections.abc import AsyncIterator, Iterator

from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime.engine import Chunk, EngineConfig, EngineRequest, ModelInfo, TokenChunk, TokenRequest


class Text:
    """Answers with its prompt, on the event loop; the prompt "fail" raises an exception."""

    def __init__(self, config: EngineConfig) -> None:
        """Accepts no options."""

    def start(self) -> None:
        """Does nothing."""

    async def generate(self, request: EngineRequest) -> AsyncIterator[Chunk]:
        """Yields the words of the prompt."""
        for word in request.body["prompt"].split():
            await asyncio.sleep(0)
            if word == "fail":
                raise ValueError("as it was asked to")
            yield {"text": word + " "}

    def stop(self) -> None:
        """Does nothing."""


class Threaded(Text):
    """Does the same in a thread for each request."""

    def generate(self, request: EngineRequest) -> Iterator[Chunk]:  # type: ignore[override]
        """Yields the words of the prompt."""
        for word in request.body["prompt"].split():
            if word == "fail":
                raise ValueError("as it was asked to")
            yield {"text": word + " "}


class Tokens:
    """Answers with its prompt's tokens, encoded by the demo model's tokenizer."""

    kind = "tokens"

    def __init__(self, config: EngineConfig) -> None:
        """Accepts no options."""

    def start(self) -> None:
        """Does nothing."""

    def describe(self) -> ModelInfo:
        """Returns the tokenizer's path."""
        return {"path": str(demo_model_dir()), "context_length": 1024}

    async def generate(self, request: TokenRequest) -> AsyncIterator[TokenChunk]:
        """Yields the tokens of the prompt."""
        for token in request.token_ids:
            await asyncio.sleep(0)
            yield {"token_ids": [token]}

    def stop(self) -> None:
        """Does nothing."""
