# SPDX-License-Identifier: Apache-2.0
"""Token-level engines that only yield token ids of the demo model, so that the benchmark measures the path
from these to text. ``max_tokens`` of the request is the number of tokens.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from dynamo_llm.paths import demo_model_dir

#: The tokens of an answer, again and again: none of them ends it.
cycle = range(10, 210)

Chunks = AsyncIterator[dict[str, Any]]


class _TokenEngine:
    kind = "tokens"

    def __init__(self, config: Any) -> None:
        """Accepts no options."""

    def start(self) -> None:
        """Does nothing."""

    def describe(self) -> dict[str, Any]:
        """Describes a model with a context of any length."""
        return {"path": str(demo_model_dir()), "context_length": 1 << 30}

    def stop(self) -> None:
        """Does nothing."""


class Suspending(_TokenEngine):
    """Suspends for one iteration of the event loop per token, like engines that wait for a step."""

    async def generate(self, request: Any) -> Chunks:
        """Yields the tokens."""
        for i in range(request.max_tokens):
            await asyncio.sleep(0)
            yield {"token_ids": [cycle[i % len(cycle)]]}


class Flat(_TokenEngine):
    """Does not suspend."""

    async def generate(self, request: Any) -> Chunks:
        """Yields the tokens."""
        for i in range(request.max_tokens):
            yield {"token_ids": [cycle[i % len(cycle)]]}
