# SPDX-License-Identifier: Apache-2.0
"""A token engine: says the prompt's tokens in reverse order."""

from collections.abc import AsyncIterator
from typing import Literal

from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime.engine import EngineConfig, ModelInfo, TokenChunk, TokenRequest


class Reversed:
    """On the loop."""

    kind: Literal["tokens"] = "tokens"

    def __init__(self, config: EngineConfig) -> None:
        self._path = config.model or str(demo_model_dir())

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def describe(self) -> ModelInfo:
        return {"path": self._path, "context_length": 64}

    async def generate(self, request: TokenRequest) -> AsyncIterator[TokenChunk]:
        for token in reversed(request.token_ids):
            yield {"token_ids": [token]}
