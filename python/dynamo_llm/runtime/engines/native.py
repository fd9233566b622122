# SPDX-License-Identifier: Apache-2.0
"""Connects token-level engines in C to the pipeline, which is in Python."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, cast

from dynamo_llm import _core
from dynamo_llm.api.creation import Progress
from dynamo_llm.api.runtime import Runtime
from dynamo_llm.runtime import options
from dynamo_llm.runtime.engine import EngineConfig, ModelInfo, TokenChunk, TokenRequest
from dynamo_llm.runtime.threads import in_thread

_keys = ("engine", "model", "device", "options", "pipeline", "python")

#: The phase that the library itself reports, also for the outer runtime.
_own_phase = "engine"


@dataclass(frozen=True)
class Options:
    """Keys of ``options``, which the library itself sets."""

    config: dict[str, Any] = field(default_factory=dict)
    """Configuration of a runtime of the engine in C, without a pipeline."""
    name: str = ""
    """Name of the engine in C."""


class NativeTokens:
    """A token-level engine in C, run by its own inner runtime: registered with ``dynamo_engine_register()``,
    or of a shared library. The library substitutes this class for such an engine, unless the configuration
    has ``"pipeline": "off"``.
    """

    kind: Literal["tokens"] = "tokens"

    def __init__(self, config: EngineConfig) -> None:
        chosen = options.read(Options, config.options)
        given = chosen.config
        # The other keys, such as limits and streams, apply to the outer runtime, which has the pipeline.
        self._config = {key: given[key] for key in _keys if key in given}
        self.name: str = chosen.name
        """The name of the engine in C."""
        self._progress = config.progress
        self._runtime: Runtime | None = None

    def start(self) -> None:
        """Starts the engine. Blocks."""
        self._runtime = Runtime(self._config, progress=self._on_progress)

    def _on_progress(self, progress: Progress) -> None:
        if progress.phase != _own_phase:
            self._progress(
                progress.phase,
                bytes_done=progress.bytes_done,
                bytes_total=progress.bytes_total,
                fraction=progress.fraction,
            )

    def describe(self) -> ModelInfo:
        """Returns the description of the engine in C."""
        assert self._runtime is not None
        (model,) = self._runtime.models()
        return cast(ModelInfo, {key: model[key] for key in ModelInfo.__annotations__ if key in model})

    def forward(self, request: TokenRequest, stream: int) -> None:
        """Passes the request on to the engine, which pushes its tokens into this stream and ends it.

        :raises DynamoError: the engine refused it. The stream still belongs to the caller.
        """
        assert self._runtime is not None
        _core.stream_forward(stream, self._runtime._core, json.dumps(_body(request)))

    async def generate(self, request: TokenRequest) -> AsyncIterator[TokenChunk]:
        """Forwards the request to the engine. Closing the generator cancels it."""
        assert self._runtime is not None
        with self._runtime.request(_body(request)) as answer:
            async for response in answer:
                chunk: TokenChunk = {"token_ids": response.token_ids, "finish_reason": response.finish_reason}
                if request.logprobs is not None:  # avoids parsing the JSON if it is not needed
                    logprobs = response.json()["choices"][0]["logprobs"]
                    chunk["logprobs"] = logprobs["tokens"] if logprobs else []
                if (usage := response.usage) is not None:
                    chunk["usage"] = {"cached_tokens": usage.cached_tokens}
                yield chunk

    @property
    def calls(self) -> dict[str, Callable[..., Any]]:
        """The control calls of the engine in C."""
        assert self._runtime is not None
        (model,) = self._runtime.models()
        return {name: partial(self._call, name) for name in model.get("calls", ())}

    async def _call(self, name: str, /, **arguments: Any) -> Any:
        """Forwards a control call. If it is cancelled, it ends when the engine has answered or is stopped."""
        assert self._runtime is not None
        return json.loads(await in_thread(self._runtime._core.call, name, json.dumps(arguments), -1))

    def stop(self) -> None:
        """Stops the engine. Blocks."""
        if self._runtime is not None:
            self._runtime.close()


def _body(request: TokenRequest) -> dict[str, Any]:
    """Returns the completion body that ``dynamo_llm/engine.h`` describes."""
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
        **(request.keys or {}),
        "extra": request.extra,
    }
    if bias := request.sampling.logit_bias:
        body["logit_bias"] = {str(token): value for token, value in bias.items()}
    if request.priority:
        body["priority"] = request.priority
    if request.cache_salt is not None:
        body["nvext"] = {"cache_salt": request.cache_salt}
    return {key: value for key, value in body.items() if value is not None}
