# SPDX-License-Identifier: Apache-2.0
"""What an engine in Python is."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict

if TYPE_CHECKING:
    from dynamo_llm.runtime.sink import Sink


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
    """More keys of OpenAI's delta: ``tool_calls``, ``reasoning_content``; of a completion's choice."""
    logprobs: dict[str, Any]
    """OpenAI's ``logprobs`` of the choice."""
    usage: Usage
    """Token counts; the last ones count."""
    data: str | bytes
    """An item of the answer to a request of data: bytes, or JSON."""


class TokenLogprob(TypedDict, total=False):
    """Log-prob of one token, natural logarithm."""

    logprob: float
    """Of the token that was chosen."""
    top: list[tuple[int, float]]
    """Alternatives as token id and log-prob, the likeliest first; as many as were asked for."""


class TokenChunk(TypedDict, total=False):
    """Some of an answer of a token engine. All keys but ``token_ids`` are optional."""

    token_ids: list[int]
    """Ids of the new tokens; a token that ended the answer (EOS, a stop token) may be among them or not."""
    finish_reason: str | None
    """With the last chunk: ``stop``, ``length``, ..."""
    logprobs: list[TokenLogprob]
    """One for each of ``token_ids``, if log-probs were asked for."""
    usage: Usage
    """Token counts that the engine knows better: ``cached_tokens``; the pipeline counts the others itself."""
    delta: dict[str, Any]
    """More keys of OpenAI's delta, if the engine takes answers apart itself: ``tool_calls``,
    ``reasoning_content``."""


class ModelInfo(TypedDict, total=False):
    """What an engine says of the model that it has loaded. All keys are optional."""

    path: str
    """Folder or file of the model."""
    context_length: int
    """Tokens of prompt and answer together, at most."""
    capabilities: list[str]
    """What requests may ask for: ``chat``, ``completion``, ``embedding``, ``logprobs``, ``seed``, ``tools``,
    ``json_schema``, ``regex``, ``grammar``, ``lora``, ``priority``, ..."""
    models: list[str] | list[dict[str, Any]]
    """Names that a request may give as its ``model``, where an engine has several models; or a dictionary
    for each, with ``id`` and keys as these, so that :meth:`~dynamo_llm.Runtime.models` lists them apart."""
    changes: bool
    """Whether ``models`` come and go: see :attr:`EngineConfig.changed`."""
    adapters: list[str]
    """Names of LoRA adapters, which a request may give as its ``model``."""
    tokenizer: str
    """Folder with ``tokenizer.json`` and ``tokenizer_config.json``; token engines need it if it is not
    ``path``."""
    eos_token_ids: list[int]
    """Tokens that end an answer; token engines may leave them to the model's files."""


@dataclass(frozen=True)
class EngineConfig:
    """A runtime's configuration, as its engine gets it."""

    engine: str
    """Name of the engine."""
    model: str | None
    """Path or name of the model; None for the engine's default."""
    options: dict[str, Any]
    """The engine's own settings, not checked yet: see :func:`dynamo_llm.runtime.options.read`."""
    python: dict[str, Any] = field(default_factory=dict)
    """The configuration's ``python``: for engines that start runtimes of their own."""
    name: str | None = None
    """What requests give as their ``model`` if they mean this one; None if the configuration does not say."""
    cluster: dict[str, Any] = field(default_factory=dict)
    """The configuration's ``cluster``, not checked yet: ``dynamo_llm.runtime.cluster.settings`` reads it."""
    changed: Callable[[], None] = field(default=lambda: None, compare=False)
    """To be called on the loop when ``describe()`` says something else than before."""


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """A request, as its engine gets it."""

    id: str
    """Unique in this process; also in logs and errors."""
    body: dict[str, Any]
    """OpenAI's body of a chat (``messages``), completion (``prompt``) or embedding (``input``); keys and
    types were checked."""
    is_cancelled: Callable[[], bool]
    """Whether the caller has gone. From any thread. For engines that work for long between chunks."""
    remaining: Callable[[], float | None] = lambda: None
    """Seconds until the request's deadline, which the library itself keeps; None if it has none. From any
    thread. For engines that pass it on."""


@dataclass(frozen=True, slots=True)
class DataRequest:
    """A request of data, as its engine gets it."""

    id: str
    """Unique in this process; also in logs and errors."""
    data: Any
    """Bytes, or what the JSON says."""
    is_cancelled: Callable[[], bool] = bool
    """Whether the caller has gone. From any thread."""
    remaining: Callable[[], float | None] = lambda: None
    """Seconds until the request's deadline, as of :class:`EngineRequest`."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. None: the engine's default, which should be greedy decoding."""

    temperature: float | None = None
    """0 is greedy decoding."""
    top_p: float | None = None
    top_k: int | None = None
    """None or -1: all tokens."""
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    logit_bias: dict[int, float] | None = None
    """Added to the logits of tokens, by token id."""


@dataclass(frozen=True)
class TokenRequest:
    """One choice of a request, as a token engine gets it: everything is checked and worked out."""

    id: str
    """Unique in this process; of a request with several choices, each has its own."""
    token_ids: list[int]
    """The prompt; with ``max_tokens`` it fits the context length."""
    max_tokens: int
    """Tokens of the answer, at most; at least 1."""
    sampling: Sampling
    min_tokens: int = 0
    """Until then no token of ``stop_token_ids`` may end the answer."""
    stop_token_ids: tuple[int, ...] = ()
    """Tokens that end the answer with ``stop``: the model's EOS (unless ``ignore_eos``) and the request's
    own. The pipeline looks for stop strings itself, and closes the generator then."""
    ignore_eos: bool = False
    """For engines that know EOS by themselves: it does not end the answer."""
    logprobs: int | None = None
    """None: no log-probs; else how many alternatives each token gets, 0 for none."""
    guided: dict[str, Any] | None = None
    """Structured output, one of ``{"json": schema}``, ``{"regex": text}``, ``{"grammar": text}``,
    ``{"choice": [texts]}``; only for engines whose capabilities say so."""
    adapter: str | None = None
    """LoRA adapter, one of those that the engine said it has."""
    priority: int = 0
    """Higher is sooner."""
    cache_salt: str | None = None
    """Prefixes are shared only between requests with the same one."""
    trace: dict[str, str] | None = None
    """W3C trace context of the request, ``traceparent`` and ``tracestate``, for engines that trace
    themselves."""
    routing: dict[str, Any] | None = None
    """Where the request is to go in a cluster, and what helps to choose: Dynamo's routing hints. Of a worker
    of several ranks, ``dp_rank`` is the one that was chosen; with the capability ``routing``."""
    disaggregated: dict[str, Any] | None = None
    """What a worker that decodes is told of the prefill: ``prefill_result``, with the
    ``disaggregated_params`` that the other worker's engine had in the ``delta`` of its last chunk, and
    ``bootstrap_info``. Only for engines with the capability ``disaggregation``."""
    is_cancelled: Callable[[], bool] = bool
    """Whether the caller has gone. From any thread."""
    remaining: Callable[[], float | None] = lambda: None
    """Seconds until the request's deadline, as of :class:`EngineRequest`."""


class Engine(Protocol):
    """An engine: a class that is called with its :class:`EngineConfig`. A *text* engine takes OpenAI's body
    and yields text; see :class:`TokenEngine` for those that know tokens only.

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

    # Optional: def describe(self) -> ModelInfo, called once after start().
    # Optional: max_threads: int, how many plain generators run at once; more wait.


class TokenEngine(Protocol):
    """An engine that takes token ids and yields token ids. Template, tokenizer, detokenizer, stop strings,
    log-probs of the answer, several choices and the check against the context length are the pipeline's, so
    ``describe()`` must say where the tokenizer is and how long the context. The rest is as for
    :class:`Engine`.
    """

    kind: Literal["tokens"]

    def __init__(self, config: EngineConfig) -> None: ...

    def start(self) -> Awaitable[None] | None:
        """Load the model."""

    def describe(self) -> ModelInfo:
        """What was loaded: ``path`` or ``tokenizer``, and ``context_length``, at least."""

    def generate(self, request: TokenRequest) -> AsyncIterator[TokenChunk] | Iterator[TokenChunk]:
        """Answer one choice of a request. It is closed early when a stop string came or the caller has
        gone.
        """

    def stop(self) -> Awaitable[None] | None:
        """Free the model."""


class StepEngine(Protocol):
    """An engine of text that owns its step loop: each step makes a token for each of many requests, and
    :data:`dynamo_llm.runtime.sink.push_step` brings them to their callers in one call, without a generator,
    a task or a turn of the loop for each. It is told of requests in place of answering them:
    ``generate()`` is missing, the rest is as for :class:`Engine`.
    """

    kind: Literal["steps"]

    def __init__(self, config: EngineConfig) -> None: ...

    def start(self) -> Awaitable[None] | None:
        """Load the model, and start the step loop: a thread, or a task."""

    def add(self, request: EngineRequest, sink: "Sink") -> None:
        """Take a request, whose answer goes into ``sink``. Called on the loop; must not block. What it raises
        is the request's end.
        """

    def cancel(self, sink: "Sink") -> None:
        """The caller has gone, or the deadline has passed: call ``sink.finish()`` when the request is out of
        the step loop. Called on the loop; must not block.
        """

    # Optional: def space(self, sink: Sink) -> None, a full stream has room again; as cancel().

    def stop(self) -> Awaitable[None] | None:
        """End the step loop and free the model."""


class DataEngine(Protocol):
    """An engine that takes requests of data, JSON or bytes, in place of OpenAI's bodies, and yields items.
    The rest is as for :class:`Engine`.
    """

    kind: Literal["data"]

    def __init__(self, config: EngineConfig) -> None: ...

    def start(self) -> Awaitable[None] | None:
        """Get ready."""

    def generate(self, request: DataRequest) -> AsyncIterator[Any] | Iterator[Any]:
        """Answer a request, item by item: bytes, or a value that JSON has."""

    def stop(self) -> Awaitable[None] | None:
        """Free what it holds."""


class ModelsEngine(Protocol):
    """An engine that has several models, which may come and go. Each is an engine of its own, of text or
    of tokens, that is started already; the pipeline is put around those of tokens. The rest is as for
    :class:`Engine`, with ``changes`` and ``models`` in what ``describe()`` says.
    """

    kind: Literal["models"]

    def __init__(self, config: EngineConfig) -> None: ...

    def start(self) -> Awaitable[None] | None:
        """Find the models."""

    def describe(self) -> ModelInfo:
        """Which models there are now."""

    async def find(self, request: EngineRequest) -> "Model":
        """The model that answers a request: the same object as long as it is the same model. May wait for it.

        :raises ModelNotFoundError: there is none of that name; the message has those that are there.
        """

    def stop(self) -> Awaitable[None] | None:
        """Let go of them."""


class Model(Protocol):
    """One of the models of a :class:`ModelsEngine`; of tokens if it has ``kind = "tokens"``."""

    def describe(self) -> ModelInfo:
        """What the model is; of tokens as in :meth:`TokenEngine.describe`."""

    def generate(self, request: Any) -> AsyncIterator[Any] | Iterator[Any]:
        """Answer a request, as :class:`Engine` or :class:`TokenEngine`."""
