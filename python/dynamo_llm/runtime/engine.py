# SPDX-License-Identifier: Apache-2.0
"""The interfaces of engines in Python, with the types that their methods take and return.

An engine need not inherit from any of them: it has the methods.
"""

from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import TYPE_CHECKING, Any, Literal, Protocol

from dynamo_llm.runtime.chunk import Chunk, TokenChunk, TokenLogprob, Usage
from dynamo_llm.runtime.engine_config import EngineConfig, TemplateSettings
from dynamo_llm.runtime.engine_request import DataRequest, EngineRequest, Sampling, TokenRequest
from dynamo_llm.runtime.model_info import ModelInfo

if TYPE_CHECKING:
    from dynamo_llm.runtime.sink import Sink

__all__ = [
    "Chunk",
    "DataEngine",
    "DataRequest",
    "Engine",
    "EngineConfig",
    "EngineRequest",
    "Model",
    "ModelInfo",
    "ModelsEngine",
    "Sampling",
    "StepEngine",
    "TemplateSettings",
    "TokenChunk",
    "TokenEngine",
    "TokenLogprob",
    "TokenRequest",
    "Usage",
]

# Documentation and pickles refer to these classes by this module, which is the public one.
for _class in (
    *(Chunk, TokenChunk, TokenLogprob, Usage, ModelInfo, EngineConfig, TemplateSettings),
    *(DataRequest, EngineRequest, Sampling, TokenRequest),
):
    _class.__module__ = __name__


class Engine(Protocol):
    """A text engine: it takes OpenAI bodies and yields text. The library calls the class with an
    :class:`EngineConfig`. For engines that process token ids only, see :class:`TokenEngine`.

    Exceptions reach the caller as errors: subclasses of :class:`dynamo_llm.errors.DynamoError` with their
    status, others as ``DYNAMO_ERROR_ENGINE_FAILED``, with their traceback.
    """

    def __init__(self, config: EngineConfig) -> None: ...

    def start(self) -> Awaitable[None] | None:
        """Loads the model. A coroutine runs on the library's event loop; a plain function runs in a thread
        and may block.
        """

    def generate(self, request: EngineRequest) -> AsyncIterator[Chunk] | Iterator[Chunk]:
        """Answers a request, chunk by chunk.

        An asynchronous generator runs on the event loop and must not block; a cancel raises
        ``asyncio.CancelledError`` in it. A plain generator runs in a thread of its own and may block; a
        cancel closes it when it yields next. ``generate`` may also be a coroutine that returns one of the
        two: it runs on the event loop, and can refuse a request before that waits for a thread.
        """

    def stop(self) -> Awaitable[None] | None:
        """Frees the model. Called once, when no request is in flight; runs as :meth:`start` does."""

    # Optional: def describe(self) -> ModelInfo, called once after start().
    # Optional: max_threads: int, how many plain generators run at once; further requests are queued.


class TokenEngine(Protocol):
    """A token-level engine: it takes token ids and yields token ids. The library's pipeline around it handles
    the chat template, tokenizing, detokenizing, stop strings, OpenAI's form of log-probs, several choices,
    and the check against the context length. So ``describe()`` must report the tokenizer and the context
    length. Otherwise as :class:`Engine`.
    """

    kind: Literal["tokens"]

    def __init__(self, config: EngineConfig) -> None: ...

    def start(self) -> Awaitable[None] | None:
        """Loads the model."""

    def describe(self) -> ModelInfo:
        """Describes the loaded model: at least ``path`` or ``tokenizer``, and ``context_length``."""

    def generate(self, request: TokenRequest) -> AsyncIterator[TokenChunk] | Iterator[TokenChunk]:
        """Answers one choice of a request. The generator is closed early after a stop string or a cancel."""

    def stop(self) -> Awaitable[None] | None:
        """Frees the model."""


class StepEngine(Protocol):
    """A step-level engine: a text engine that owns its step loop. Each step produces a token for each of many
    requests, and :data:`dynamo_llm.runtime.sink.push_many` passes all of them on in one call, without a
    generator, a task, or an iteration of the event loop per token. It has ``add()`` and ``cancel()`` in
    place of ``generate()``; otherwise as :class:`Engine`.
    """

    kind: Literal["steps"]

    def __init__(self, config: EngineConfig) -> None: ...

    def start(self) -> Awaitable[None] | None:
        """Loads the model and starts the step loop, a thread or a task."""

    def add(self, request: EngineRequest, sink: "Sink") -> None:
        """Accepts a request; its answer goes into ``sink``. Called on the event loop; must not block. An
        exception ends the request.
        """

    def cancel(self, sink: "Sink") -> None:
        """Cancels a request: the caller cancelled it, or its deadline passed. Call ``sink.finish()`` once the
        request has left the step loop. Called on the event loop; must not block.
        """

    # Optional: def space(self, sink: Sink) -> None: a full stream is writable again. Called like cancel().

    def stop(self) -> Awaitable[None] | None:
        """Ends the step loop and frees the model."""


class DataEngine(Protocol):
    """A raw engine: it takes payloads (JSON values or bytes) in place of OpenAI bodies, and yields items.
    Otherwise as :class:`Engine`.
    """

    kind: Literal["data"]

    def __init__(self, config: EngineConfig) -> None: ...

    def start(self) -> Awaitable[None] | None:
        """Prepares the engine for requests."""

    def generate(self, request: DataRequest) -> AsyncIterator[Any] | Iterator[Any]:
        """Answers a request, item by item; each item is bytes or a JSON value."""

    def stop(self) -> Awaitable[None] | None:
        """Releases the engine's resources."""


class ModelsEngine(Protocol):
    """An engine with a dynamic model list. Each model is a started engine of its own, text or token-level;
    the library puts its pipeline around token-level ones. Otherwise as :class:`Engine`; ``describe()``
    reports ``changes`` and ``models``.
    """

    kind: Literal["models"]

    def __init__(self, config: EngineConfig) -> None: ...

    def start(self) -> Awaitable[None] | None:
        """Finds the models."""

    def describe(self) -> ModelInfo:
        """Describes the current models."""

    async def find(self, request: EngineRequest) -> "Model":
        """Returns the model that answers a request; for the same model always the same object. May wait
        until the model is available.

        :raises ModelNotFoundError: no model has that name; the message lists the current ones.
        """

    def stop(self) -> Awaitable[None] | None:
        """Releases the models."""


class Model(Protocol):
    """One of the models of a :class:`ModelsEngine`; token-level if it has ``kind = "tokens"``."""

    def describe(self) -> ModelInfo:
        """Describes the model; a token-level one as in :meth:`TokenEngine.describe`."""

    def generate(self, request: Any) -> AsyncIterator[Any] | Iterator[Any]:
        """Answers a request, as :class:`Engine` or :class:`TokenEngine`."""
