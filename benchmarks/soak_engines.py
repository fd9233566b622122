# SPDX-License-Identifier: Apache-2.0
"""Engines in Python for the soak."""

import asyncio
from collections.abc import AsyncIterator, Iterator

from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime.engine import Chunk, EngineConfig, EngineRequest, ModelInfo, TokenChunk, TokenRequest


class Text:
    """Answers with its prompt, on the loop; the prompt "fail" raises."""

    def __init__(self, config: EngineConfig) -> None:
        """Take no options."""

    def start(self) -> None:
        """Have nothing to load."""

    async def generate(self, request: EngineRequest) -> AsyncIterator[Chunk]:
        """Say the words of the prompt."""
        for word in request.body["prompt"].split():
            await asyncio.sleep(0)
            if word == "fail":
                raise ValueError("as it was asked to")
            yield {"text": word + " "}

    def stop(self) -> None:
        """Have nothing to free."""


class Threaded(Text):
    """The same in a thread for each request."""

    def generate(self, request: EngineRequest) -> Iterator[Chunk]:  # type: ignore[override]
        """Say the words of the prompt."""
        for word in request.body["prompt"].split():
            if word == "fail":
                raise ValueError("as it was asked to")
            yield {"text": word + " "}


class Tokens:
    """Answers with its prompt's tokens, of the demo model's tokenizer."""

    kind = "tokens"

    def __init__(self, config: EngineConfig) -> None:
        """Take no options."""

    def start(self) -> None:
        """Have nothing to load."""

    def describe(self) -> ModelInfo:
        """Name the tokenizer."""
        return {"path": str(demo_model_dir()), "context_length": 1024}

    async def generate(self, request: TokenRequest) -> AsyncIterator[TokenChunk]:
        """Say the tokens of the prompt."""
        for token in request.token_ids:
            await asyncio.sleep(0)
            yield {"token_ids": [token]}

    def stop(self) -> None:
        """Have nothing to free."""
