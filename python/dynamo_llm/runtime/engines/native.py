# SPDX-License-Identifier: Apache-2.0
"""Engines of token ids in C, behind the pipeline, which is in Python."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from dynamo_llm.api.runtime import Runtime
from dynamo_llm.runtime import options
from dynamo_llm.runtime.engine import EngineConfig, ModelInfo, TokenChunk, TokenRequest


@dataclass(frozen=True)
class Options:
    """Keys of ``options``, which the library itself sets."""

    config: dict[str, Any] = field(default_factory=dict)
    """Configuration of a runtime of the engine in C, without a pipeline."""


class NativeTokens:
    """An engine of token ids that was registered with ``dynamo_engine_register()``, reached through a runtime
    of its own. The library puts it in place of such an engine, unless the configuration says
    ``"pipeline": "off"``.
    """

    kind: Literal["tokens"] = "tokens"

    def __init__(self, config: EngineConfig) -> None:
        self._config = options.read(Options, config.options).config
        self._runtime: Runtime | None = None

    def start(self) -> None:
        """Start the engine; blocks."""
        self._runtime = Runtime(self._config)

    def describe(self) -> ModelInfo:
        """What the engine says of itself; where the library cannot ask it, the model's path."""
        models = getattr(self._runtime, "models", None)
        if models is not None and (described := models()):
            return cast(ModelInfo, described[0])
        model = self._config.get("model")
        return {} if model is None else {"path": model}

    async def generate(self, request: TokenRequest) -> AsyncIterator[TokenChunk]:
        """Have the engine answer; a close cancels its request."""
        assert self._runtime is not None
        with self._runtime.request(_body(request)) as answer:
            async for response in answer:
                chunk: TokenChunk = {
                    "token_ids": response.token_ids,
                    "finish_reason": response.finish_reason,
                }
                if request.logprobs is not None:  # else nobody reads the JSON
                    logprobs = response.json()["choices"][0]["logprobs"]
                    chunk["logprobs"] = logprobs["tokens"] if logprobs else []
                if (usage := response.usage) is not None:
                    chunk["usage"] = {"cached_tokens": usage.cached_tokens}
                yield chunk

    def stop(self) -> None:
        """Stop the engine; blocks."""
        if self._runtime is not None:
            self._runtime.close()


def _body(request: TokenRequest) -> dict[str, Any]:
    """The completion body that ``dynamo_llm/engine.h`` describes."""
    body: dict[str, Any] = {
        "prompt": request.token_ids,
        "max_tokens": request.max_tokens,
        "min_tokens": request.min_tokens,
        "stop_token_ids": list(request.stop_token_ids),
        "ignore_eos": request.ignore_eos,
        "logprobs": request.logprobs,
        "adapter": request.adapter,
        **{key: value for key, value in vars(request.sampling).items() if key != "logit_bias"},
        **{f"guided_{kind}": value for kind, value in (request.guided or {}).items()},
        **(request.trace or {}),
    }
    if bias := request.sampling.logit_bias:
        body["logit_bias"] = {str(token): value for token, value in bias.items()}
    if request.priority:
        body["priority"] = request.priority
    if request.cache_salt is not None:
        body["nvext"] = {"cache_salt": request.cache_salt}
    return {key: value for key, value in body.items() if value is not None}
