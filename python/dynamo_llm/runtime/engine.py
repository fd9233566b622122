# SPDX-License-Identifier: Apache-2.0
"""What an engine in Python is."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict


class Usage(TypedDict, total=False):
    """Token counts of a whole request."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


class Chunk(TypedDict, total=False):
    """Some of an answer. All keys are optional."""

    text: str | bytes
    """More text; bytes may split a code point of UTF-8, the library joins it."""
    token_ids: list[int]
    """Ids of the tokens that this is; without them a chunk counts as one token."""
    index: int
    """The choice, from 0."""
    finish_reason: str | None
    """With the last chunk of a choice: ``stop``, ``length``, ``tool_calls``, ..."""
    delta: dict[str, Any]
    """More keys of OpenAI's delta: ``tool_calls``, ``reasoning_content``."""
    logprobs: dict[str, Any]
    """OpenAI's ``logprobs`` of the choice."""
    usage: Usage
    """Token counts; the last ones count."""


@dataclass(frozen=True)
class EngineConfig:
    """A runtime's configuration, as its engine gets it."""

    engine: str
    """Name of the engine."""
    model: str | None
    """Path or name of the model; None for the engine's default."""
    options: dict[str, Any]
    """The engine's own settings, not checked yet: see :func:`dynamo_llm.runtime.options.read`."""


@dataclass(frozen=True)
class EngineRequest:
    """A request, as its engine gets it."""

    id: str
    """Unique in this process; also in logs and errors."""
    body: dict[str, Any]
    """OpenAI's body of a chat (``messages``), completion (``prompt``) or embedding (``input``); keys and
    types were checked."""
    is_cancelled: Callable[[], bool]
    """Whether the caller has gone. From any thread. For engines that work for long between chunks."""


class Engine(Protocol):
    """An engine: a class that is called with its :class:`EngineConfig`.

    Exceptions reach the caller as errors: subclasses of :class:`dynamo_llm.errors.DynamoError` with their
    status, others as ``DYNAMO_ERROR_ENGINE_FAILED``, with their traceback.
    """

    def __init__(self, config: EngineConfig) -> None: ...

    def start(self) -> Awaitable[None] | None:
        """Load the model. A coroutine runs on the loop; a plain function runs in a thread and may block."""

    def generate(self, request: EngineRequest) -> AsyncIterator[Chunk] | Iterator[Chunk]:
        """Answer a request, chunk by chunk.

        An asynchronous generator runs on the loop and must not block it; a cancel raises
        ``asyncio.CancelledError`` in it. A plain generator runs in a thread of its own and may block; a
        cancel closes it when it yields.
        """

    def stop(self) -> Awaitable[None] | None:
        """Free the model. Called once, when no request is in flight; as :meth:`start`."""
