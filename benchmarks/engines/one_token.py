# SPDX-License-Identifier: Apache-2.0
"""The smallest engine: one token for each request."""

from collections.abc import AsyncIterator

from dynamo_llm.runtime.engine import Chunk, EngineConfig, EngineRequest


class OneToken:
    """Answers at once, so that the benchmark measures only the path from the engine to the caller."""

    def __init__(self, config: EngineConfig) -> None:
        """Accepts no options."""

    def start(self) -> None:
        """Does nothing."""

    async def generate(self, request: EngineRequest) -> AsyncIterator[Chunk]:
        """Yields one token."""
        yield {"text": "token", "token_ids": [0]}

    def stop(self) -> None:
        """Does nothing."""
