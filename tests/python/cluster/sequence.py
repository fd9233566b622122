# SPDX-License-Identifier: Apache-2.0
"""Answers whose every token depends on all tokens before it: a lost, repeated, or moved token changes the
rest of the answer.
"""

import asyncio
import zlib
from array import array
from collections.abc import AsyncIterator, Sequence

from dynamo_llm import paths
from dynamo_llm.runtime.engine import EngineConfig, ModelInfo, TokenChunk, TokenRequest


def next_token(sequence: Sequence[int]) -> int:
    """Returns the token that follows a sequence."""
    return 1 + zlib.crc32(array("I", sequence).tobytes()) % 499  # 0 would end an answer


def continuation(prompt: Sequence[int], count: int) -> list[int]:
    """Returns the answer of so many tokens to a prompt."""
    sequence = list(prompt)
    for _ in range(count):
        sequence.append(next_token(sequence))
    return sequence[len(prompt) :]


class SequenceEngine:
    """A token-level engine with these answers. Its option ``delay`` is the time for a token, in seconds."""

    kind = "tokens"

    def __init__(self, config: EngineConfig) -> None:
        self._delay = float(config.options.get("delay", 0))

    def start(self) -> None:
        """Does nothing."""

    def describe(self) -> ModelInfo:
        """Describes the model."""
        return {"path": str(paths.demo_model_dir()), "context_length": 4096}

    async def generate(self, request: TokenRequest) -> AsyncIterator[TokenChunk]:
        """Generates as many tokens as the request allows."""
        for token in continuation(request.token_ids, request.max_tokens - 1):
            await asyncio.sleep(self._delay)
            yield {"token_ids": [token]}
        last = continuation(request.token_ids, request.max_tokens)[-1:]
        yield {"token_ids": last, "finish_reason": "length"}

    def stop(self) -> None:
        """Does nothing."""
