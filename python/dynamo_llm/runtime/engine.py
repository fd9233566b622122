# SPDX-License-Identifier: Apache-2.0
"""The interfaces of engines in Python, with the types that their methods take and return.

An engine need not inherit from any of them: it has the methods.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypedDict

from dynamo_llm.runtime.media.media_settings import MediaSettings


class Usage(TypedDict, total=False):
    """Token counts of a whole request."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


class Chunk(TypedDict, total=False):
    """A part of an answer. All keys are optional."""

    text: str | bytes
    """More text. Bytes may end within a UTF-8 code point: the library reassembles it."""
    token_ids: list[int]
    """Ids of the chunk's tokens; a chunk without them counts as one token."""
    index: int
    """Index of the choice, from 0; default: 0."""
    finish_reason: str | None
    """In the last chunk of a choice: ``stop``, ``length``, ``tool_calls``, ..."""
    delta: dict[str, Any]
    """More keys of OpenAI's delta: ``tool_calls``, ``reasoning_content``; for a completion, of its choice."""
    logprobs: dict[str, Any]
    """OpenAI's ``logprobs`` of the choice."""
    usage: Usage
    """Token counts of the request so far; the last ones count."""
    data: str | bytes
    """An item of the answer to a raw request: bytes, or JSON."""


class TokenLogprob(TypedDict, total=False):
    """Log-probs of one position (natural logarithm)."""

    logprob: float
    """Log-prob of the token that was sampled."""
    top: list[tuple[int, float]]
    """Alternatives as token id and log-prob, the most likely first; as many as requested."""


class TokenChunk(TypedDict, total=False):
    """A part of the answer of a token-level engine. All keys but ``token_ids`` are optional."""

    token_ids: list[int]
    """Ids of the new tokens. A token that ended the answer (EOS, a stop token) may be included or left
    out."""
    finish_reason: str | None
    """In the last chunk: ``stop``, ``length``, ..."""
    logprobs: list[TokenLogprob]
    """One entry per token in ``token_ids``, if the request asks for log-probs."""
    usage: Usage
    """Token counts that only the engine knows, ``cached_tokens``; the pipeline counts the others itself."""
    delta: dict[str, Any]
    """More keys of OpenAI's delta, if the engine parses answers itself: ``tool_calls``,
    ``reasoning_content``."""


class ModelInfo(TypedDict, total=False):
    """An engine's description of the model that it has loaded. All keys are optional."""

    path: str
    """Folder or file of the model."""
    context_length: int
    """Maximum number of tokens of prompt and answer together."""
    device: str
    """Where the engine computes, such as ``cuda:1``. An engine that reads :attr:`EngineConfig.device` reports
    it; without it, the library refuses a configuration that chooses a device."""
    longest_token: int
    """Maximum number of bytes of text that one token stands for. With it and ``context_length``, the library
    refuses texts that cannot fit at once; for token-level engines the pipeline checks that."""
    capabilities: list[str]
    """What requests may use: ``chat``, ``completion``, ``embedding``, ``rerank``, ``score``, ``classify``,
    ``images``, ``audio``, ``logprobs``, ``seed``, ``tools``, ``json_schema``, ``regex``, ``grammar``,
    ``lora``, ``priority``, ..."""
    models: list[str] | list[dict[str, Any]]
    """For an engine with several models: the names that a request may give as ``model``; or a dictionary per
    model, with ``id`` and the keys of this class, which :meth:`~dynamo_llm.Runtime.models` lists."""
    changes: bool
    """Whether ``models`` is a dynamic model list: see :attr:`EngineConfig.changed`."""
    adapters: list[str]
    """Names of LoRA adapters, which a request may give as ``model``."""
    tokenizer: str
    """Folder with ``tokenizer.json`` and ``tokenizer_config.json``; token-level engines need it if it is not
    ``path``."""
    labels: list[str]
    """Names of the labels of a model that classifies texts."""
    eos_token_ids: list[int]
    """Tokens that end an answer, in addition to those in the tokenizer's files."""
    calls: list[str]
    """Names of the engine's control calls. The library sets it, from ``calls`` of the engine."""
    tool_call_parser: str
    """For a token-level engine: name of the parser that finds tool calls in the model's answers, unless the
    configuration names one; one of NVIDIA Dynamo's."""
    reasoning_parser: str
    """Likewise, of the parser that finds reasoning."""
    frontend: bool
    """Of a cluster's model: whether NVIDIA Dynamo's frontend in this process answers requests without
    Python."""
    request_keys: list[str]
    """Keys of request bodies that the engine takes in addition to those that every engine takes: keys of its
    own, which other engines refuse, and, for a token-level engine, keys that the pipeline passes on:
    ``extra``, ``allowed_token_ids``, ``bad_words``, ``length_penalty``, ..."""


@dataclass(frozen=True, slots=True)
class TemplateSettings:
    """The configuration's settings for chat templates."""

    trusts_requests: bool = False
    """Whether a request may bring its own template."""
    run: Literal["process", "host"] = "process"
    """Where templates run: in a child process, or in this process."""
    timeout_ms: int = 10000
    """Time limit in milliseconds for one request."""
    memory_mb: int = 512
    """Memory limit in MiB for one request."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "TemplateSettings":
        """Reads the settings from a runtime's configuration, whose keys and types were checked before."""
        trusts = config.get("trust_request_chat_template", False)
        return cls(trusts_requests=trusts, **config.get("templates", {}))


class ReportProgress(Protocol):
    """Reports how far the start of an engine has come; see :attr:`EngineConfig.progress`."""

    def __call__(
        self, phase: str, *, bytes_done: int = 0, bytes_total: int = 0, fraction: float | None = None
    ) -> None:
        """Reports progress.

        :param phase: what the engine does: ``download``, ``weights``, ``tokenizer``, ``warmup`` are usual.
        :param bytes_done: bytes that have been read or downloaded in this phase.
        :param bytes_total: their total; 0 if it is not known.
        :param fraction: how much of this phase is done, from 0 to 1; None if it is not known. With
            ``bytes_total`` the library computes it.
        :raises dynamo_llm.CancelledError: the creation of the runtime was cancelled. Let it pass, after
            freeing what was loaded.
        :raises ValueError: an argument is out of range.
        """


def _drop_progress(
    phase: str, *, bytes_done: int = 0, bytes_total: int = 0, fraction: float | None = None
) -> None:
    """Is the ``progress`` of an engine that nobody watches."""


class FrontendModel(TypedDict):
    """A model of a :class:`FrontendTarget`."""

    name: str
    """The server's name of it."""
    context_length: int
    """Maximum number of tokens of prompt and answer together; 0: unknown."""
    vocab_size: int
    """Exclusive upper limit of its token ids; 0: unknown."""
    only_for: list[str]
    """Keys of the bodies of a model that only the server has: ``prompt``, ``input``. Empty: Python can
    answer, too."""


class FrontendTarget(TypedDict):
    """An HTTP server of Dynamo in this process, to which the library's C++ code sends requests."""

    port: int
    """Its port on the loopback interface."""
    default_model: str
    """Name of the model for requests that name none; empty: Python answers those."""
    silence_ms: int
    """Milliseconds without a token after which Python takes over a request; 0: no limit."""
    models: dict[str, "FrontendModel"]
    """The models that it can serve now, by the name in requests."""


@dataclass(frozen=True)
class EngineConfig:
    """The part of a runtime's configuration that its engine gets."""

    engine: str
    """Name of the engine."""
    model: str | None
    """Path or name of the model; None for the engine's default. An engine with ``model_formats`` gets the
    path of the downloaded files for ``hf:org/name``."""
    options: dict[str, Any] = field(repr=False)
    """The engine's own settings, not checked yet: see :func:`dynamo_llm.runtime.options.read`. ``repr()``
    hides them, and ``cluster``: both may contain keys and passwords."""
    python: dict[str, Any] = field(default_factory=dict)
    """The configuration's ``python``, for engines that create runtimes of their own."""
    name: str | None = None
    """Name by which requests select this model in ``model``; None if the configuration does not set it."""
    cluster: dict[str, Any] = field(default_factory=dict, repr=False)
    """The configuration's ``cluster``, not checked yet: ``dynamo_llm.runtime.cluster.settings`` reads it."""
    device: str = "auto"
    """The configuration's ``device``: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``metal``, or another name. An
    engine that reads it describes the device that it uses, and refuses one that it does not have."""
    templates: TemplateSettings = field(default_factory=TemplateSettings)
    """The configuration's ``trust_request_chat_template`` and ``templates``, for engines that render chats
    themselves."""
    media: MediaSettings = field(default_factory=MediaSettings)
    """The configuration's ``media``, for engines that take images or audio."""
    changed: Callable[[], None] = field(default=lambda: None, compare=False)
    """The engine calls this, on the event loop, when the result of ``describe()`` has changed."""
    progress: ReportProgress = field(default=_drop_progress, compare=False, repr=False)
    """The engine calls this in ``start()``, from any thread: at the beginning of each phase, and during long
    ones as often as it likes. Who creates the runtime with a callback sees it. If the creation is cancelled,
    a ``start()`` that is a coroutine is cancelled at its next ``await``, and a call of this function raises
    :class:`dynamo_llm.CancelledError`."""
    set_frontend: Callable[[FrontendTarget | None], None] | None = field(
        default=None, compare=False, repr=False
    )
    """The engine ``dynamo`` calls this with the server that answers requests from now on; with None, engine
    and pipeline answer them. None if the configuration asks for something that only they can do."""


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """A request to a text engine or a step-level engine."""

    id: str
    """Unique in this process; also in logs and errors."""
    body: dict[str, Any]
    """The OpenAI body of a chat (``messages``), a completion (``prompt``), or an embedding request
    (``input``); keys and types were checked. An engine with the capabilities ``rerank``, ``score``, or
    ``classify`` gets the bodies of vLLM's server for them, too; the last has ``input`` and ``"task":
    "classify"``."""
    is_cancelled: Callable[[], bool]
    """Returns whether the request was cancelled. Any thread. For engines that work for long between
    chunks."""
    remaining: Callable[[], float | None] = lambda: None
    """Returns the seconds until the request's deadline; None without one. Any thread. The library enforces
    the deadline itself; this is for engines that pass it on."""
    set_queued: Callable[[bool], None] = lambda is_queued: None
    """The engine calls this with True when the request enters a queue of its own, and with False when work
    begins: the time in between is the request's ``queue_us``. Any thread. Without a call, work begins when
    ``generate()`` is called, or, for a plain generator, when it gets a thread."""

    @property
    def prompts(self) -> list[Any]:
        """The prompts of a completion, texts or lists of token ids; one unless ``prompt`` is a list of these.
        Choice i of prompt p has the index ``p * n + i``.
        """
        given = self.body["prompt"]
        return given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]

    @property
    def choices(self) -> int:
        """Number of choices of the answer: ``n`` for each prompt."""
        return (self.body.get("n") or 1) * (len(self.prompts) if "prompt" in self.body else 1)


@dataclass(frozen=True, slots=True)
class DataRequest:
    """A raw request."""

    id: str
    """Unique in this process; also in logs and errors."""
    data: Any
    """The payload: bytes, or the value of its JSON."""
    is_cancelled: Callable[[], bool] = bool
    """Returns whether the request was cancelled. Any thread."""
    remaining: Callable[[], float | None] = lambda: None
    """Returns the seconds until the request's deadline, as in :class:`EngineRequest`."""


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters. None means the engine's default, which should be greedy decoding."""

    temperature: float | None = None
    """0 is greedy decoding."""
    top_p: float | None = None
    top_k: int | None = None
    """None or -1 means all tokens."""
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    logit_bias: dict[int, float] | None = None
    """Values to add to logits, by token id."""


@dataclass(frozen=True)
class TokenRequest:
    """One choice of a request to a token-level engine. All values were checked, and defaults applied."""

    id: str
    """Unique in this process; each choice of a request has its own."""
    token_ids: list[int]
    """The prompt; together with ``max_tokens`` it fits the context length."""
    max_tokens: int
    """Maximum number of tokens of the answer; at least 1."""
    sampling: Sampling
    min_tokens: int = 0
    """Number of tokens before which no token of ``stop_token_ids`` may end the answer."""
    stop_token_ids: tuple[int, ...] = ()
    """Tokens that end the answer with ``stop``: the model's EOS (unless ``ignore_eos``) and the request's
    own. The pipeline detects stop strings itself, and then closes the generator."""
    ignore_eos: bool = False
    """Whether EOS must not end the answer; for engines that know EOS themselves."""
    logprobs: int | None = None
    """Number of alternatives per token, 0 for none; None means no log-probs."""
    guided: dict[str, Any] | None = None
    """Structured output: one of ``{"json": schema}``, ``{"regex": text}``, ``{"grammar": text}``,
    ``{"choice": [texts]}``; only for engines that declare the capability."""
    adapter: str | None = None
    """LoRA adapter, one of ``adapters`` in the engine's description."""
    priority: int = 0
    """Higher values are scheduled sooner."""
    cache_salt: str | None = None
    """Only requests with the same cache salt may share prefixes."""
    trace: dict[str, str] | None = None
    """W3C trace context of the request, ``traceparent`` and ``tracestate``, for engines that create spans
    themselves."""
    routing: dict[str, Any] | None = None
    """Dynamo's routing hints for the request. In a worker with several ranks, ``dp_rank`` is the rank that
    was selected. Only for engines with the capability ``routing``."""
    disaggregated: dict[str, Any] | None = None
    """For the decode role of disaggregated serving: ``prefill_result``, with the ``disaggregated_params``
    that the prefill worker's engine put into the ``delta`` of its last chunk, and ``bootstrap_info``. Only
    for engines with the capability ``disaggregation``."""
    extra: dict[str, Any] | None = None
    """The body's ``extra``, unchanged; only for engines that declare ``extra`` in their ``request_keys``."""
    keys: dict[str, Any] | None = None
    """Other keys of the body that the engine declares in its ``request_keys``, unchanged."""
    media: Any = None
    """Of a prompt with images or audio: :attr:`ExpandedPrompt.media`, the same object for each choice."""
    is_cancelled: Callable[[], bool] = bool
    """Returns whether the request was cancelled. Any thread."""
    remaining: Callable[[], float | None] = lambda: None
    """Returns the seconds until the request's deadline, as in :class:`EngineRequest`."""
    set_queued: Callable[[bool], None] = lambda is_queued: None
    """Reports a queue of the engine's own, as in :class:`EngineRequest`."""


@dataclass(frozen=True)
class ExpandedPrompt:
    """A prompt with images or audio, as a model reads it."""

    token_ids: list[int]
    """The prompt, with as many tokens in place of each image and audio as it takes. They count in the usage,
    and in the context length."""
    media: Any
    """What the engine needs to compute the images and the audio: any object but None."""


@dataclass(frozen=True)
class EmbeddingRequest:
    """An embedding request to a token-level engine. All values were checked."""

    id: str
    """Unique in this process."""
    inputs: list[list[int]]
    """Token ids of the texts; none is empty, and each fits the context length."""
    dimensions: int | None = None
    """Number of dimensions of the vectors; None for all."""
    is_cancelled: Callable[[], bool] = bool
    """Returns whether the request was cancelled. Any thread."""


@dataclass(frozen=True)
class ClassificationRequest:
    """A request to a token-level engine that classifies texts, or pairs of texts. All values were checked."""

    id: str
    """Unique in this process."""
    inputs: list[list[int]]
    """Token ids of the texts; none is empty, and each fits the context length."""
    type_ids: list[list[int]] | None = None
    """Of pairs: for each token of the inputs, which of the two texts it belongs to, 0 or 1."""
    activates: bool = True
    """Whether probabilities are wanted, not the model's raw numbers."""
    is_cancelled: Callable[[], bool] = bool
    """Returns whether the request was cancelled. Any thread."""


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
    # Optional: calls: Mapping[str, Callable[..., Any]], the engine's control calls by name, read once after
    # start(). Each takes the arguments of Runtime.call() as keyword arguments, and returns a JSON value. A
    # coroutine function runs on the event loop, and ends with asyncio.CancelledError when the caller stops
    # waiting; a plain function runs in a thread and may block. Both may run while requests are in flight.
    # After a call describe() is called again, so that a request may name an adapter that it has loaded.
    # Optional: max_threads: int, how many plain generators run at once; further requests are queued.
    # Optional: model_formats: tuple[str, ...], for an engine that loads model files: "safetensors" (a folder
    # with config.json, tokenizer, and weights), "gguf" (a file), or both. A configuration may then name a
    # model of the Hugging Face Hub, "hf:org/name", and EngineConfig.model is the path of its files.


class StartableEngine(Protocol):
    """The methods that engines of every kind have."""

    def __init__(self, config: EngineConfig) -> None: ...

    def start(self) -> Awaitable[None] | None:
        """Loads the model, as :meth:`Engine.start`."""

    def stop(self) -> Awaitable[None] | None:
        """Frees the model, as :meth:`Engine.stop`."""


class TokenEngine(StartableEngine, Protocol):
    """A token-level engine: it takes token ids and yields token ids. The library's pipeline around it handles
    the chat template, tokenizing, detokenizing, stop strings, OpenAI's form of log-probs, several choices,
    and the check against the context length. So ``describe()`` must report the tokenizer and the context
    length. Otherwise as :class:`Engine`.
    """

    kind: Literal["tokens"]

    def describe(self) -> ModelInfo:
        """Describes the loaded model: at least ``path`` or ``tokenizer``, and ``context_length``."""

    def generate(self, request: TokenRequest) -> AsyncIterator[TokenChunk] | Iterator[TokenChunk]:
        """Answers one choice of a request. The generator is closed early after a stop string or a cancel."""

    # Optional: add(), cancel(), and on_writable(), as dynamo_llm.runtime.sink.StepEngine has them, for an
    # engine that owns its step loop. Requests with one choice and without log-probs then go to add(), as
    # TokenRequest, and not to generate(), unless Python needs the text (parsers, traces);
    # push_many(sinks, token_ids) passes a whole step on.
    # Optional, with the capability "images", "audio", or both: async def expand(self, token_ids:
    # Sequence[int], media: Sequence[Image | Audio]) -> ExpandedPrompt, which puts images and audio, each only
    # if it has that capability (dynamo_llm.runtime.media.image and .audio), in order, in place of the tokens
    # that the chat template writes for them. Called once per request, also if it has several choices.
    # Optional, with the capability "embedding": async def embed(self, request: EmbeddingRequest) ->
    # Sequence[Sequence[float]], a vector for each input. It raises NotSupportedError for "dimensions" that it
    # cannot honor.
    # Optional, with the capability "classify" and "labels" in the description: async def classify(self,
    # request: ClassificationRequest) -> Sequence[Sequence[float]], for each input a number for each label.
    # With one label it may have the capabilities "score" and "rerank", too; then the inputs are pairs of
    # texts.


class DataEngine(StartableEngine, Protocol):
    """A raw engine: it takes payloads (JSON values or bytes) in place of OpenAI bodies, and yields items.
    Otherwise as :class:`Engine`.
    """

    kind: Literal["data"]

    def generate(self, request: DataRequest) -> AsyncIterator[Any] | Iterator[Any]:
        """Answers a request, item by item; each item is bytes or a JSON value."""


class ModelsEngine(StartableEngine, Protocol):
    """An engine with a dynamic model list. Each model is a started engine of its own, text or token-level;
    the library puts its pipeline around token-level ones. Otherwise as :class:`Engine`; ``describe()``
    reports ``changes`` and ``models``.
    """

    kind: Literal["models"]

    def describe(self) -> ModelInfo:
        """Describes the current models."""

    async def find(self, request: EngineRequest) -> "Model":
        """Returns the model that answers a request; for the same model always the same object. May wait
        until the model is available.

        :raises ModelNotFoundError: no model has that name; the message lists the current ones.
        """


class Model(Protocol):
    """One of the models of a :class:`ModelsEngine`; token-level if it has ``kind = "tokens"``."""

    def describe(self) -> ModelInfo:
        """Describes the model; a token-level one as in :meth:`TokenEngine.describe`."""

    def generate(self, request: Any) -> AsyncIterator[Any] | Iterator[Any]:
        """Answers a request, as :class:`Engine` or :class:`TokenEngine`."""
