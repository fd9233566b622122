# SPDX-License-Identifier: Apache-2.0
"""Puts template, tokenizer, detokenizer and stop strings around an engine of token ids."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

from dynamo_llm.errors import (
    ContextLengthError,
    DynamoError,
    NotSupportedError,
)
from dynamo_llm.runtime.engine import Chunk, EngineRequest, ModelInfo, TokenEngine, TokenRequest
from dynamo_llm.runtime.pipeline.body import Reader, Settings
from dynamo_llm.runtime.pipeline.choice import Choice, NoText
from dynamo_llm.runtime.pipeline.detokenizer import Detokenizer
from dynamo_llm.runtime.pipeline.folder import Folder
from dynamo_llm.runtime.pipeline.logprobs import ChatLogprobs, CompletionLogprobs, RawLogprobs
from dynamo_llm.runtime.pipeline.prompt import Prompts, vocab_size
from dynamo_llm.runtime.pipeline.template import ChatTemplates
from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer
from dynamo_llm.runtime.stop import StopStrings

Answer = AsyncIterator[Chunk] | Iterator[Chunk]
Logprobs = ChatLogprobs | CompletionLogprobs | RawLogprobs


class Pipeline:
    """What stands between a caller of chats and completions and a started engine of token ids.

    :param engine: started.
    :param info: what it said of its model.
    :param has_text: False for callers who send token ids and want token ids: ``"pipeline": "off"``.
    :raises DynamoError: the engine does not say enough.
    :raises ModelNotFoundError: no tokenizer is where it says.
    """

    def __init__(self, engine: TokenEngine, info: ModelInfo, has_text: bool = True) -> None:
        self._engine = engine
        self._tokenizer: Tokenizer | None = None
        templates: ChatTemplates | None = None
        where = info.get("tokenizer") or info.get("path")
        folder: Folder | None = None
        if has_text:
            if where is None:
                raise _silent(engine, '"path" or "tokenizer"')
            folder = Folder(where)
            self._tokenizer = Tokenizer(folder)
            templates = ChatTemplates(folder.chat_templates, folder.special_tokens)
        self._context_length = info.get("context_length") or (folder.context_length if folder else None)
        if self._context_length is None:
            raise _silent(engine, '"context_length"')
        self._eos = frozenset(_eos(info, folder, self._tokenizer))
        size = vocab_size(folder, self._tokenizer)
        self._reader = Reader(info, size)
        self._prompts = Prompts(self._tokenizer, templates, size)
        self.info: ModelInfo = _described(info, self._context_length, has_text, folder)
        """What the engine said, and what the pipeline adds to it."""

    async def answer(self, request: EngineRequest) -> list[Answer]:
        """The choices of the answer to a request, which may run at the same time.

        :raises DynamoError: the request is refused; the engine has not seen it then.
        """
        settings = self._reader.read(request.body)
        prompt = await self._prompts.ids(request.body)
        asked = self._request(request, prompt, settings)
        answers: list[Answer] = []
        for index in range(settings.n):
            choice = self._choice(index, asked if settings.n == 1 else _of_index(asked, index), settings)
            answers.append(self._start(choice))
        return answers

    # ------------------------------------------------------------------------------------ request

    def _request(self, request: EngineRequest, prompt: list[int], settings: Settings) -> TokenRequest:
        limit = self._context_length
        assert limit is not None
        room = limit - len(prompt)
        wanted = settings.max_tokens
        if room < 1 or (wanted is not None and wanted > room):
            raise ContextLengthError(
                f"the prompt has {len(prompt)} tokens and the answer may have "
                + (f'{wanted} ("max_tokens")' if wanted is not None else "at least 1")
                + f", but the model's context length is {limit} tokens for both together"
            )
        if settings.min_tokens > room:
            raise ContextLengthError(
                f"the prompt has {len(prompt)} tokens and the answer at least {settings.min_tokens} "
                f'("min_tokens"), but the model\'s context length is {limit} tokens for both together'
            )
        eos = () if settings.ignore_eos else sorted(self._eos)
        return TokenRequest(
            id=request.id,
            token_ids=prompt,
            max_tokens=room if wanted is None else wanted,
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
            is_cancelled=request.is_cancelled,
            remaining=request.remaining,
        )

    # ------------------------------------------------------------------------------------- answer

    def _choice(self, index: int, request: TokenRequest, settings: Settings) -> Choice:
        logprobs: Logprobs | None = None
        if self._tokenizer is None:
            if settings.stops:
                raise NotSupportedError(
                    '"stop" of the request needs the pipeline, which is "off" in the configuration; '
                    '"stop_token_ids" work without it'
                )
            if settings.logprobs is not None:
                logprobs = RawLogprobs()
            return Choice(index, request, NoText(), StopStrings([]), logprobs)
        if settings.logprobs is not None:
            logprobs = (
                ChatLogprobs(self._tokenizer)
                if settings.is_chat
                else CompletionLogprobs(self._tokenizer, settings.logprobs > 0)
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
        answer: Any = self._engine.generate(choice.request)
        if hasattr(answer, "__aiter__"):
            return choice.over_async(answer)
        if hasattr(answer, "__iter__"):
            return choice.over(answer)
        raise TypeError(
            f"generate() of {type(self._engine).__qualname__} must be a generator, "
            f"not return {type(answer).__qualname__}"
        )


def _silent(engine: TokenEngine, what: str) -> DynamoError:
    return DynamoError(f"describe() of {type(engine).__qualname__}, an engine of token ids, must give {what}")


def _eos(info: ModelInfo, folder: Folder | None, tokenizer: Tokenizer | None) -> list[int]:
    if "eos_token_ids" in info:
        return info["eos_token_ids"]
    if folder is None or tokenizer is None:
        return []
    named = folder.special_tokens.get("eos_token")
    id = None if named is None else tokenizer.token_id(named)
    return [*folder.eos_token_ids, *([] if id is None else [id])]


def _described(info: ModelInfo, context_length: int, has_text: bool, folder: Folder | None) -> ModelInfo:
    own = ["completion"]
    if has_text and folder is not None and folder.chat_templates:
        own.insert(0, "chat")
    capabilities = list(dict.fromkeys([*own, *info.get("capabilities", ())]))
    return {**info, "context_length": context_length, "capabilities": capabilities}


def _of_index(request: TokenRequest, index: int) -> TokenRequest:
    """The request for one of several choices: with an id of its own, and the next seed."""
    seed = request.sampling.seed
    sampling = request.sampling if seed is None else replace(request.sampling, seed=seed + index)
    return replace(request, id=f"{request.id}-{index}", sampling=sampling)
