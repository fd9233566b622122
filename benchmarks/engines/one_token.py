# SPDX-License-Identifier: Apache-2.0
"""The smallest engine: one token for each request."""

from collections.abc import AsyncIterator

from dynamo_llm.runtime.engine import Chunk, EngineConfig, EngineRequest


class OneToken:
    """Answers at once, so that what is measured is the way there."""

    def __init__(self, config: EngineConfig) -> None:
        """Take no options."""

    def start(self) -> None:
        """Have nothing to load."""

    async def generate(self, request: EngineRequest) -> AsyncIterator[Chunk]:
        """Say one token."""
        yield {"text": "token", "token_ids": [0]}

    def stop(self) -> None:
        """Have nothing to free."""
