# SPDX-License-Identifier: Apache-2.0
"""A plain token-level engine: every request is one call of transformers' generate()."""

from collections.abc import Iterator
from typing import Any, Literal

from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime.engine import ModelInfo, TokenChunk, TokenRequest
from reference import Reference


class Plain:
    """See above."""

    kind: Literal["tokens"] = "tokens"
    max_threads = 1

    def __init__(self, config: Any) -> None:
        self._reference = Reference()

    def start(self) -> None:
        """Load the model."""
        assert self._reference.model is not None

    def describe(self) -> ModelInfo:
        """The demo model."""
        return {"path": str(demo_model_dir()), "context_length": 1024}

    def generate(self, request: TokenRequest) -> Iterator[TokenChunk]:
        """Answer a request, all at once."""
        ids = self._reference.generate(request.token_ids, request.max_tokens).token_ids
        ended = ids[-1] in request.stop_token_ids
        yield {"token_ids": ids, "finish_reason": "stop" if ended else "length"}

    def stop(self) -> None:
        """Nothing to free."""
