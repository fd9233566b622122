# SPDX-License-Identifier: Apache-2.0
"""Engines whose models appear and disappear."""

import gc
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

from dynamo_llm import Runtime, paths
from dynamo_llm.runtime.engine import EngineConfig, EngineRequest, ModelInfo, TokenChunk, TokenRequest
from waiting import wait_until

here = Path(__file__).resolve().parent


class Thirteen:
    """A model that generates one token."""

    kind = "tokens"

    def describe(self) -> ModelInfo:
        """Returns the demo model's files."""
        return {"path": str(paths.demo_model_dir()), "context_length": 64}

    async def generate(self, request: TokenRequest) -> AsyncIterator[TokenChunk]:
        """Yields the token."""
        yield {"token_ids": [13], "finish_reason": "stop"}


class Models:
    """An engine with one model at a time; "next" in a request's "user" replaces it."""

    kind = "models"
    seen: ClassVar[list[weakref.ref[Any]]] = []

    def __init__(self, config: EngineConfig) -> None:
        self._model = Thirteen()

    def start(self) -> None:
        """Does nothing."""

    def describe(self) -> ModelInfo:
        """Returns the only model."""
        return {"changes": True, "models": [{"id": "thirteen"}]}

    async def find(self, request: EngineRequest) -> Thirteen:
        """Returns the current model."""
        if request.body.get("user") == "next":
            self._model = Thirteen()
        self.seen.append(weakref.ref(self._model))
        return self._model

    def stop(self) -> None:
        """Does nothing."""


def test_replaced_models_are_freed() -> None:
    """Together with the tokenizer that was created for them."""
    import test_dynamic_model_list as imported  # as the runtime has it

    def answer(**more: Any) -> None:
        assert runtime.complete([5], model="thirteen", max_tokens=2, **more).result().text

    with Runtime(engine="test_dynamic_model_list:Models", python={"path": [str(here)]}) as runtime:
        answer()
        answer()
        first, again = imported.Models.seen
        assert first() is not None and first() is again()
        answer(user="next")

        def has_gone() -> bool:
            gc.collect()
            return first() is None

        wait_until(has_gone)
        answer()
        assert len({model() for model in imported.Models.seen[2:]}) == 1
