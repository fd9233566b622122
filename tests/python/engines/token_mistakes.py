# SPDX-License-Identifier: Apache-2.0
"""Token-level engines that make mistakes."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime.engine import EngineConfig, ModelInfo, TokenRequest


class Mistaken:
    """Yields the chunks that the request's key "extra" has."""

    kind = "tokens"

    def __init__(self, config: EngineConfig) -> None:
        """Accepts no options."""

    def start(self) -> None:
        """Does nothing."""

    def describe(self) -> ModelInfo:
        """Describes the demo model."""
        return {
            "path": str(demo_model_dir()),
            "context_length": 4096,
            "capabilities": ["logprobs"],
            "request_keys": ["extra"],
        }

    def generate(self, request: TokenRequest) -> AsyncIterator[Any] | Iterator[Any]:
        """Yields them asynchronously, or in a thread."""
        assert request.extra is not None
        chunks = request.extra["chunks"]
        return iter(chunks) if request.extra.get("in_thread") else self._slowly(chunks)

    async def _slowly(self, chunks: list[Any]) -> AsyncIterator[Any]:
        for chunk in chunks:
            yield chunk

    def stop(self) -> None:
        """Does nothing."""
