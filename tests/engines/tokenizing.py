# SPDX-License-Identifier: Apache-2.0
"""An engine that encodes its prompt, on the loop or in a thread."""

import asyncio
from collections.abc import AsyncIterator

from dynamo_llm import Tokenizer
from dynamo_llm.runtime.engine import Chunk, EngineConfig, EngineRequest


class Tokenizing:
    def __init__(self, config: EngineConfig) -> None:
        self._config = config

    def start(self) -> None:
        self._tokenizer = Tokenizer()

    async def generate(self, request: EngineRequest) -> AsyncIterator[Chunk]:
        prompt = request.body["prompt"]
        if prompt == "in a thread":
            yield {"token_ids": await asyncio.to_thread(self._tokenizer.encode, prompt)}
        else:
            yield {"token_ids": self._tokenizer.encode(prompt)}

    def stop(self) -> None:
        self._tokenizer.close()
