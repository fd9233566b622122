# SPDX-License-Identifier: Apache-2.0
"""Connects a token-level engine with chat template, tokenizer, detokenizer, and stop strings."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

from dynamo_llm.errors import (
    ContextLengthError,
    DynamoError,
    NotSupportedError,
)
from dynamo_llm.runtime.engine import (
    Chunk,
    EngineRequest,
    ModelInfo,
    TemplateSettings,
    TokenEngine,
    TokenRequest,
)
from dynamo_llm.runtime.generators import require_generator
from dynamo_llm.runtime.pipeline.choice import Choice
from dynamo_llm.runtime.pipeline.detokenizer import Detokenizer
from dynamo_llm.runtime.pipeline.logprobs import ChatLogprobs, CompletionLogprobs, RawLogprobs
from dynamo_llm.runtime.pipeline.model_folder import ModelFolder
from dynamo_llm.runtime.pipeline.prompt import Prompts, vocab_size
from dynamo_llm.runtime.pipeline.renderer import Renderer
from dynamo_llm.runtime.pipeline.request_body import BodyReader, RequestSettings
from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer
from dynamo_llm.runtime.stop_strings import StopStrings

Answer = AsyncIterator[Chunk] | Iterator[Chunk]
Logprobs = ChatLogprobs | CompletionLogprobs | RawLogprobs

#: Optional keys of a body that the pipeline handles for every engine.
_keys = ("cache_salt", "min_tokens", "skip_special_tokens", "stop_token_ids", "truncate_prompt_tokens")


class Pipeline:
    """Converts chats and completions to requests for a token-level engine, and its answers to text.

    :param engine: the engine, already started.
    :param info: the engine's description.
    :param has_text: False for callers that send and receive token ids: ``"pipeline": "off"``.
    :param name: name of the engine, for errors; default: that of its class.
    :param settings: settings of chat templates.
    :raises DynamoError: the description is incomplete.
    :raises ModelNotFoundError: the folder in the description has no tokenizer.
    """

    def __init__(
        self,
        engine: TokenEngine,
        info: ModelInfo,
        has_text: bool = True,
        name: str | None = None,
        settings: TemplateSettings | None = None,
    ) -> None:
        self._engine = engine
        self._tokenizer: Tokenizer | None = None
        renderer: Renderer | None = None
        where = info.get("tokenizer") or info.get("path")
        folder: ModelFolder | None = None
        if has_text:
            if where is None:
                raise _incomplete(engine, '"path" or "tokenizer"')
            folder = ModelFolder(where)
            self._tokenizer = Tokenizer(folder)
            renderer = Renderer(folder.chat_templates, folder.special_tokens, settings or TemplateSettings())
        self._context_length = info.get("context_length") or (folder.context_length if folder else None)
        if self._context_length is None:
            raise _incomplete(engine, '"context_length"')
        own = self._tokenizer.eos_token_ids if self._tokenizer else []
        self._eos = frozenset([*info.get("eos_token_ids", ()), *own])
        size = vocab_size(folder, self._tokenizer)
        self._reader = BodyReader(name or type(engine).__qualname__, info, size, _keys)
        self._prompts = Prompts(self._tokenizer, renderer, size)
        self.info: ModelInfo = _described(info, self._context_length, self._tokenizer, folder)
        """The engine's description, with the pipeline's additions."""

    async def answer(self, request: EngineRequest) -> list[Answer]:
        """Starts to answer a request. Returns one generator per choice; they may run concurrently.

        :raises DynamoError: the request was rejected before it reached the engine.
        """
        settings = self._reader.read(request.body)
        # A prompt that will be truncated may have any length.
        prompt = await self._prompts.ids(
            request.body, self._context_length if settings.truncate is None else None
        )
        asked = self._request(request, prompt, settings)
        answers: list[Answer] = []
        for index in range(settings.n):
            choice = self._choice(index, asked if settings.n == 1 else _of_index(asked, index), settings)
            answers.append(self._start(choice))
        return answers

    # ------------------------------------------------------------------------------------ request

    def _request(self, request: EngineRequest, prompt: list[int], settings: RequestSettings) -> TokenRequest:
        limit = self._context_length
        assert limit is not None
        wanted = settings.max_tokens
        if settings.truncate is not None:
            kept = (
                settings.truncate if settings.truncate > 0 else limit - max(1, wanted or settings.min_tokens)
            )
            prompt = prompt[-kept:] if kept > 0 else prompt
        left = limit - len(prompt)
        if left < 1 or (wanted is not None and wanted > left):
            raise ContextLengthError(
                f"the prompt has {len(prompt)} tokens and the answer may have "
                + (f'{wanted} ("max_tokens")' if wanted is not None else "at least 1")
                + f", but the model's context length is {limit} tokens for both together"
            )
        if settings.min_tokens > left:
            raise ContextLengthError(
                f"the prompt has {len(prompt)} tokens and the answer at least {settings.min_tokens} "
                f'("min_tokens"), but the model\'s context length is {limit} tokens for both together'
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
            is_cancelled=request.is_cancelled,
            remaining=request.remaining,
            set_queued=request.set_queued,
        )

    # ------------------------------------------------------------------------------------- answer

    def _choice(self, index: int, request: TokenRequest, settings: RequestSettings) -> Choice:
        logprobs: Logprobs | None = None
        if self._tokenizer is None:
            if settings.stops:
                raise NotSupportedError(
                    '"stop" of the request needs the pipeline, which is "off" in the configuration; use '
                    '"stop_token_ids" instead'
                )
            if settings.logprobs is not None:
                logprobs = RawLogprobs()
            return Choice(index, request, None, StopStrings([]), logprobs)
        if settings.logprobs is not None:
            logprobs = (
                ChatLogprobs(self._tokenizer)
                if settings.is_chat
                else CompletionLogprobs(
                    self._tokenizer, settings.logprobs > 0, request.token_ids, settings.skips_special
                )
            )
        shown = frozenset(settings.stop_token_ids) - self._eos if settings.includes_stop else frozenset()
        return Choice(
            index,
            request,
            Detokenizer(self._tokenizer, request.token_ids, settings.skips_special),
            StopStrings(settings.stops, settings.includes_stop),
            logprobs,
            shown,
        )

    def _start(self, choice: Choice) -> Answer:
        answer: Any = require_generator(self._engine.generate(choice.request), type(self._engine))
        return choice.chunks_async(answer) if hasattr(answer, "__aiter__") else choice.chunks(answer)


def _incomplete(engine: TokenEngine, what: str) -> DynamoError:
    return DynamoError(f"describe() of the token-level engine {type(engine).__qualname__} must return {what}")


def _described(
    info: ModelInfo, context_length: int, tokenizer: Tokenizer | None, folder: ModelFolder | None
) -> ModelInfo:
    own = ["completion"]
    if tokenizer is not None and folder is not None and folder.chat_templates:
        own.insert(0, "chat")
    capabilities = list(dict.fromkeys([*own, *info.get("capabilities", ())]))
    keys = list(dict.fromkeys([*info.get("request_keys", ()), *_keys]))
    described: ModelInfo = {**info, "capabilities": capabilities, "request_keys": keys}
    described["context_length"] = context_length
    if tokenizer is not None and tokenizer.longest_token is not None:
        described["longest_token"] = tokenizer.longest_token
    return described


def _of_index(request: TokenRequest, index: int) -> TokenRequest:
    """Returns the request for one of several choices, with its own id and seed."""
    seed = request.sampling.seed
    sampling = request.sampling if seed is None else replace(request.sampling, seed=seed + index)
    return replace(request, id=f"{request.id}-{index}", sampling=sampling)
