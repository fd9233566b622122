# SPDX-License-Identifier: Apache-2.0
"""Connects a token-level engine with chat template, tokenizer, detokenizer, and stop strings."""

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from dynamo_llm import _core
from dynamo_llm.errors import (
    ContextLengthError,
    DynamoError,
    EngineFailedError,
    InvalidRequestError,
    NotSupportedError,
)
from dynamo_llm.runtime import embedding, scoring
from dynamo_llm.runtime.engine import (
    Chunk,
    ClassificationRequest,
    EmbeddingRequest,
    EngineRequest,
    ModelInfo,
    TemplateSettings,
    TokenEngine,
    TokenRequest,
)
from dynamo_llm.runtime.media.audio import Audio
from dynamo_llm.runtime.media.image import Image
from dynamo_llm.runtime.media.media_part import Kind, has_parts, require_text
from dynamo_llm.runtime.media.media_reader import MediaReader
from dynamo_llm.runtime.media.media_settings import MediaSettings
from dynamo_llm.runtime.pipeline.answer_parser import AnswerParser, AnswerParsers, AskedChat
from dynamo_llm.runtime.pipeline.choice import Choice
from dynamo_llm.runtime.pipeline.forced_call import ForcedCallParser
from dynamo_llm.runtime.pipeline.model_folder import ModelFolder
from dynamo_llm.runtime.pipeline.parsed_choice import ParsedChoice
from dynamo_llm.runtime.pipeline.prompt import Prompts
from dynamo_llm.runtime.pipeline.request_body import BodyReader, RequestSettings
from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer
from dynamo_llm.runtime.pipeline.tools import Tools
from dynamo_llm.runtime.pusher import Answer, TokenAnswer, require_generator
from dynamo_llm.runtime.threads import DaemonThreads, in_pool

#: Creates the parser of a choice; gets the token ids of the prompt.
Begin = Callable[[list[int]], Coroutine[Any, Any, AnswerParser]]

#: Optional keys of a body that the pipeline handles for every engine.
_keys = ("cache_salt", "min_tokens", "skip_special_tokens", "stop_token_ids", "truncate_prompt_tokens")
#: Those that it handles if it has a parser of tool calls.
_tool_keys = ("parallel_tool_calls", "tool_choice")

#: Number of requests whose images and audio are read or downloaded at once; others are queued.
_reading = DaemonThreads(16, "dynamo-media")
#: What a token-level engine declares if it takes images or audio.
_capabilities: dict[Kind, str] = {"image": "images", "audio": "audio"}

#: Last tokens of a prompt that show whether it ends with the beginning of reasoning.
_prompt_end = 16


class Pipeline:
    """Converts chats and completions to requests for a token-level engine, and its answers to text.

    :param engine: the engine, already started.
    :param has_text: False for callers that send and receive token ids: ``"pipeline": "off"``.
    :param name: name of the engine, for errors.
    :param parsers: find reasoning and tool calls in the answers to chats; None: they stay text.
    :param media: what images and audio may be, for an engine that takes them.
    :raises DynamoError: the description is incomplete.
    :raises ModelNotFoundError: the folder in the description has no tokenizer.
    """

    def __init__(
        self,
        engine: TokenEngine,
        info: ModelInfo,
        has_text: bool,
        name: str,
        settings: TemplateSettings,
        parsers: AnswerParsers | None = None,
        media: MediaSettings | None = None,
    ) -> None:
        self._engine = engine
        self._parsers = parsers
        self._taker = f'this model of the engine "{name}"'
        self._media: MediaReader | None = None
        able = info.get("capabilities", ()) if has_text and hasattr(engine, "expand") else ()
        kinds = [kind for kind, capability in _capabilities.items() if capability in able]
        if kinds:
            self._media = MediaReader(media or MediaSettings(), self._taker, kinds)
        self._prompts = Prompts(None, None, None)
        folder: ModelFolder | None = None
        if has_text:
            where = info.get("tokenizer") or info.get("path")
            if where is None:
                raise _incomplete(engine, '"path" or "tokenizer"')
            folder = ModelFolder(where)
            self._prompts = Prompts.of(folder, settings, media=kinds)
        self._tokenizer = self._prompts.tokenizer
        self._context_length = info.get("context_length") or (folder.context_length if folder else None)
        if self._context_length is None:
            raise _incomplete(engine, '"context_length"')
        own = self._tokenizer.eos_token_ids if self._tokenizer else []
        self._eos = frozenset([*info.get("eos_token_ids", ()), *own])
        self._name = name
        self._embeds = "embedding" in info.get("capabilities", ()) and hasattr(engine, "embed")
        self._only_embeds = self._embeds and list(info["capabilities"]) == ["embedding"]
        self._labels = list(info.get("labels", ()))
        self._classifies = "classify" in info.get("capabilities", ()) and hasattr(engine, "classify")
        keys = (*_keys, *_tool_keys) if parsers is not None and parsers.finds_calls else _keys
        self._reader = BodyReader(name, info, self._prompts.vocab_size, keys)
        makes = [] if self._only_embeds or self._classifies else ["completion"]
        if makes and folder is not None and folder.chat_templates:
            makes.insert(0, "chat")
        self.info: ModelInfo = _described(info, self._context_length, self._tokenizer, makes, keys)
        """The engine's description, with the pipeline's additions."""

    def describe_again(self, info: ModelInfo) -> None:
        """Takes a new description of the engine, which may have other adapters."""
        adapters = list(info.get("adapters", ()))
        self._reader.set_adapters(adapters)
        self.info = {**self.info, "adapters": adapters}

    async def answer(self, request: EngineRequest) -> list[Answer]:
        """Starts to answer a request. Returns one generator per choice, those of the first prompt first; they
        may run concurrently.

        :raises DynamoError: the request was rejected before it reached the engine.
        """
        if (kind := scoring.kind_of(request.body)) is not None:
            return [self._classify(request) if kind == "classify" else self._compare(request)]
        if "input" in request.body and self._embeds:
            return [self._embed(request)]
        if self._classifies:
            raise NotSupportedError(
                'the model only classifies texts; send an "input" with "task": "classify" instead'
            )
        if self._only_embeds:
            raise NotSupportedError('the model only makes embeddings; send an "input" instead')
        if self._media is None:
            require_text(request.body.get("messages"), self._taker)
        settings = self._reader.read(request.body)
        begin: Begin | None = None
        if settings.is_chat and self._parsers is not None:
            settings, begin = self._parsed(request.body, settings, self._parsers)
        found: list[Image | Audio] = []
        if self._media is not None and has_parts(request.body.get("messages")):
            request, found = await self._read_media(request, settings, self._media)
        # A prompt that will be truncated may have any length.
        prompts = await self._prompts.each(
            request.body, self._context_length if settings.truncate is None else None
        )
        media: Any = None
        if found:
            engine: Any = self._engine
            expanded = await engine.expand(prompts[0], found)
            prompts, media = [expanded.token_ids], expanded.media
        is_one = len(prompts) == 1
        # All requests before the first generator: one prompt that is too long refuses all of them.
        asked = [
            self._request(request, prompt, settings, "the prompt" if is_one else f'"prompt[{number}]"', media)
            for number, prompt in enumerate(prompts)
        ]
        answers: list[Answer] = []
        for one in asked:
            for number in range(settings.n):
                index = len(answers)
                own = one if is_one and settings.n == 1 else _of_choice(one, index, number)
                choice = Choice(own, self._choice(index, own, settings))
                if begin is None and self._is_native:
                    # The choices of a prompt share its tokens in the usage.
                    count = len(own.token_ids) if number == 0 else 0
                    forward = getattr(self._engine, "forward", None) if own is one else None
                    # push_many() has no log-probs.
                    takes_steps = own is one and own.logprobs is None and hasattr(self._engine, "add")
                    answers.append(
                        TokenAnswer(
                            choice.core,
                            count,
                            own,
                            partial(self._generate, own),
                            self._engine if takes_steps else None,
                            forward and partial(forward, own),
                        )
                    )
                elif begin is None:
                    answers.append(self._start(choice))
                else:
                    several = request.body.get("parallel_tool_calls") is not False
                    parsed = ParsedChoice(choice, partial(begin, own.token_ids), several)
                    answers.append(self._start(parsed))
        return answers

    async def _read_media(
        self, request: EngineRequest, settings: RequestSettings, media: MediaReader
    ) -> tuple[EngineRequest, list[Image | Audio]]:
        """Returns a request with ``{"type": "image"}`` or ``{"type": "audio"}`` in place of each image and
        audio, and these.
        """
        if settings.truncate is not None:
            raise NotSupportedError(
                '"truncate_prompt_tokens" of the request could cut an image or audio; leave it out of '
                "requests with these"
            )
        messages, found = await in_pool(
            media.read, request.body["messages"], request.is_cancelled, pool=_reading
        )
        return replace(request, body={**request.body, "messages": messages}), found

    def _parsed(
        self, body: dict[str, Any], settings: RequestSettings, parsers: AnswerParsers
    ) -> tuple[RequestSettings, "Begin | None"]:
        """Returns the settings of a chat whose answer is parsed, and the function that creates its parsers;
        None if there is nothing to find in it.
        """
        tools = Tools(body if parsers.finds_calls else {}, self._name)
        if tools.is_forced:
            if settings.guided is not None:
                raise InvalidRequestError(
                    '"tool_choice" of the request forces a tool call, so the request cannot demand '
                    "structured output"
                )
            self._reader.require("json_schema", '"tool_choice"')
            return replace(settings, guided={"json": tools.forced_schema()}), _begin_forced
        callable_tools = [] if tools.are_off else tools.all
        if not callable_tools and not parsers.finds_reasoning:
            return settings, None

        async def begin(prompt: list[int]) -> AnswerParser:
            assert self._tokenizer is not None
            end = self._tokenizer.decode(prompt[-_prompt_end:], False)
            return await parsers.begin(AskedChat(body, callable_tools, prompt, end))

        # The markers that a parser looks for may be special tokens.
        return replace(settings, skips_special=False), begin

    async def _embed(self, request: EngineRequest) -> AsyncIterator[Chunk]:
        body, limit = request.body, self._context_length
        assert limit is not None
        inputs = await self._prompts.inputs(embedding.inputs_of(body, self._name), limit)
        engine: Any = self._engine
        vectors = await engine.embed(
            EmbeddingRequest(request.id, inputs, body.get("dimensions"), request.is_cancelled)
        )
        if len(vectors) != len(inputs):
            raise EngineFailedError(f"the engine made {len(vectors)} embeddings for {len(inputs)} inputs")
        encoding = body.get("encoding_format")
        yield {
            "delta": {"data": [embedding.entry(at, one, encoding) for at, one in enumerate(vectors)]},
            "usage": {"prompt_tokens": sum(map(len, inputs))},
        }

    async def _classify(self, request: EngineRequest) -> AsyncIterator[Chunk]:
        body, limit = request.body, self._context_length
        assert limit is not None
        inputs = await self._prompts.inputs(embedding.inputs_of(body, self._name), limit)
        data = [
            {
                "index": at,
                "label": self._labels[max(range(len(probs)), key=probs.__getitem__)],
                "probs": probs,
                "num_classes": len(probs),
            }
            for at, probs in enumerate(await self._numbers(request, inputs, None))
        ]
        yield {"delta": {"data": data}, "usage": {"prompt_tokens": sum(map(len, inputs))}}

    async def _compare(self, request: EngineRequest) -> AsyncIterator[Chunk]:
        """Answers a rerank or score request with a model that reads pairs of texts."""
        limit = self._context_length
        assert limit is not None
        texts = scoring.Texts.of(request.body)
        pairs = [(texts.texts[one], texts.texts[other]) for one, other in texts.pairs]
        inputs, type_ids = await self._prompts.pairs(pairs, limit)
        scores = [score for (score,) in await self._numbers(request, inputs, type_ids)]
        yield {"delta": texts.delta(scores), "usage": {"prompt_tokens": sum(map(len, inputs))}}

    async def _numbers(
        self, request: EngineRequest, inputs: list[list[int]], type_ids: list[list[int]] | None
    ) -> list[list[float]]:
        engine: Any = self._engine
        activates = request.body.get("use_activation") is not False
        rows = await engine.classify(
            ClassificationRequest(request.id, inputs, type_ids, activates, request.is_cancelled)
        )
        if len(rows) != len(inputs) or any(len(row) != len(self._labels) for row in rows):
            raise EngineFailedError(
                f"the engine did not make {len(self._labels)} numbers for each of {len(inputs)} inputs"
            )
        return [list(row) for row in rows]

    # ------------------------------------------------------------------------------------ request

    def _request(
        self, request: EngineRequest, prompt: list[int], settings: RequestSettings, name: str, media: Any
    ) -> TokenRequest:
        limit = self._context_length
        assert limit is not None
        wanted = settings.max_tokens
        if settings.truncate is not None:
            kept = (
                settings.truncate if settings.truncate > 0 else limit - max(1, wanted or settings.min_tokens)
            )
            prompt = prompt[-kept:] if kept > 0 else prompt
        left = limit - len(prompt)
        too_long = None
        if left < 1 or (wanted is not None and wanted > left):
            too_long = "may have " + ("at least 1" if wanted is None else f'{wanted} ("max_tokens")')
        elif settings.min_tokens > left:
            too_long = f'at least {settings.min_tokens} ("min_tokens")'
        if too_long is not None:
            raise ContextLengthError(
                f"{name} has {len(prompt)} tokens and the answer {too_long}, but the model's context "
                f"length is {limit} tokens for both together"
            )
        eos = () if settings.ignore_eos else sorted(self._eos)
        return TokenRequest(
            id=request.id,
            token_ids=prompt,
            max_tokens=left if wanted is None else wanted,
            sampling=settings.sampling,
            min_tokens=settings.min_tokens,
            stop_token_ids=tuple(dict.fromkeys([*eos, *settings.stop_token_ids])),
            ignore_eos=settings.ignore_eos,
            logprobs=settings.logprobs,
            guided=settings.guided,
            adapter=settings.adapter,
            priority=settings.priority,
            cache_salt=settings.cache_salt,
            trace=settings.trace,
            routing=settings.routing,
            disaggregated=settings.disaggregated,
            extra=settings.extra,
            keys=settings.keys,
            media=media,
            is_cancelled=request.is_cancelled,
            remaining=request.remaining,
            set_queued=request.set_queued,
        )

    # ------------------------------------------------------------------------------------- answer

    def _choice(self, index: int, request: TokenRequest, settings: RequestSettings) -> _core.TokenChoice:
        form = ""
        if self._tokenizer is None:
            if settings.stops:
                raise NotSupportedError(
                    '"stop" of the request needs the pipeline, which is "off" in the configuration; use '
                    '"stop_token_ids" instead'
                )
            form = "" if settings.logprobs is None else "raw"
        elif settings.logprobs is not None:
            form = "chat" if settings.is_chat else "completion_top" if settings.logprobs else "completion"
        return _core.TokenChoice(
            None if self._tokenizer is None else self._tokenizer.vocabulary,
            request.token_ids,
            index,
            request.max_tokens,
            request.min_tokens,
            stop_ids=request.stop_token_ids,
            shown_stop_ids=sorted({*settings.stop_token_ids} - self._eos) if settings.includes_stop else (),
            stop_strings=settings.stops,
            includes_stop=settings.includes_stop,
            skip_special_tokens=settings.skips_special,
            logprobs=form,
        )

    @property
    def _is_native(self) -> bool:
        return self._tokenizer is None or self._tokenizer.vocabulary.is_native

    def _generate(self, request: TokenRequest) -> Any:
        return require_generator(self._engine.generate(request), type(self._engine))

    def _start(self, choice: Choice | ParsedChoice) -> Answer:
        answer = self._generate(choice.request)
        return choice.chunks_async(answer) if hasattr(answer, "__aiter__") else choice.chunks(answer)


async def _begin_forced(prompt: list[int]) -> AnswerParser:
    return ForcedCallParser()


def _incomplete(engine: TokenEngine, what: str) -> DynamoError:
    return DynamoError(f"describe() of the token-level engine {type(engine).__qualname__} must return {what}")


def _described(
    info: ModelInfo,
    context_length: int,
    tokenizer: Tokenizer | None,
    own: list[str],
    own_keys: Sequence[str],
) -> ModelInfo:
    if "tool_choice" in own_keys:
        own = [*own, "tools"]
    capabilities = list(dict.fromkeys([*own, *info.get("capabilities", ())]))
    keys = list(dict.fromkeys([*info.get("request_keys", ()), *own_keys]))
    described: ModelInfo = {**info, "capabilities": capabilities, "request_keys": keys}
    described["context_length"] = context_length
    if tokenizer is not None and tokenizer.longest_token is not None:
        described["longest_token"] = tokenizer.longest_token
    return described


def _of_choice(request: TokenRequest, index: int, number: int) -> TokenRequest:
    """Returns the request for one of several choices, with its own id and seed.

    :param index: of the choice in the answer.
    :param number: of the choice among those of its prompt.
    """
    seed = request.sampling.seed
    sampling = request.sampling if seed is None else replace(request.sampling, seed=seed + number)
    return replace(request, id=f"{request.id}-{index}", sampling=sampling)
