# SPDX-License-Identifier: Apache-2.0
"""Provides for a text model of mistral.rs what the pipeline provides for token-level engines."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tokenizers import decoders

from dynamo_llm.runtime.engine import Usage
from dynamo_llm.runtime.engines.mistralrs import temporary_files
from dynamo_llm.runtime.engines.mistralrs.answer import Answer
from dynamo_llm.runtime.engines.mistralrs.model import check_added
from dynamo_llm.runtime.engines.mistralrs.prompt import Prompt, Prompts
from dynamo_llm.runtime.engines.mistralrs.request import Request
from dynamo_llm.runtime.engines.mistralrs.templates import Templates
from dynamo_llm.runtime.engines.mistralrs.vocabulary import Vocabulary
from dynamo_llm.runtime.pipeline.request_body import RequestSettings
from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer

#: A token that stands for a byte.
_byte_token = re.compile("<0x[0-9A-Fa-f]{2}>")


class EndTokens(NamedTuple):
    """The tokens that end one answer."""

    ids: frozenset[int]
    """Ids of all of them."""
    texts: list[str]
    """Texts of the tokens that mistral.rs detects by itself if they are given as stop sequences. Such tokens
    must be special: the text of another token would also be found within longer tokens.
    """


class TextModel:
    """Converts bodies to prompts, and chunks of mistral.rs to answers.

    :param declared_ends: ids of all tokens that the model declares to end an answer. mistral.rs detects only
        some of them.
    """

    def __init__(self, tokenizer: Tokenizer, templates: Templates, declared_ends: Iterable[int]) -> None:
        self.templates = templates
        self.prompts = Prompts(tokenizer, templates)
        self._tokenizer = tokenizer
        self._declared_ends = frozenset(declared_ends)
        self._vocabulary = Vocabulary(tokenizer)
        self._thinks = templates.thinks

    def ends(self, settings: RequestSettings) -> EndTokens:
        """Returns the tokens that end an answer: the model's, unless they are ignored, and the request's."""
        declared = frozenset() if settings.ignore_eos else self._declared_ends
        ids = declared.union(settings.stop_token_ids)
        texts = [self._text_of_special(id) for id in sorted(ids)]
        return EndTokens(ids, [text for text in texts if text is not None])

    def _text_of_special(self, id: int) -> str | None:
        if id not in self._tokenizer.special_ids:
            return None
        text = self._tokenizer.core.id_to_token(id)
        return text if text is not None and self._tokenizer.encode_now(text) == [id] else None

    def answers(self, request: Request, prompt: Prompt, ends: frozenset[int], first: int) -> list[Answer]:
        """Returns the choices of the answer to a prompt, before their first tokens; tokens with the given ids
        end them.

        :param first: index of the first choice.
        """
        may_call = bool(request.tools.all) and not request.tools.are_off
        is_parsed = not request.is_exact and (self._thinks or may_call)
        return [
            Answer(first + number, request, prompt.ids, self._tokenizer, self._vocabulary, ends, is_parsed)
            for number in range(request.settings.n)
        ]

    @staticmethod
    def usage(answers: list[Answer], n: int) -> Usage:
        """Returns the token counts of a request with these answers, n for each prompt. A prompt counts only
        once.
        """
        firsts = [answer.usage for answer in answers[::n]]
        total: Usage = {**firsts[0]}
        total["prompt_tokens"] = sum(usage["prompt_tokens"] for usage in firsts)
        if any("cached_tokens" in usage for usage in firsts):
            total["cached_tokens"] = sum(usage.get("cached_tokens", 0) for usage in firsts)
        total["completion_tokens"] = sum(answer.usage["completion_tokens"] for answer in answers)
        return total


@contextmanager
def tokenizer_for_engine(tokenizer: Tokenizer) -> Iterator[str]:
    """Provides a file with the tokenizer while mistral.rs loads. It has no post-processor, which would add
    tokens to every text, even to chats.
    """
    check_added(len(tokenizer.core.get_added_tokens_decoder()))
    core = type(tokenizer.core).from_str(tokenizer.core.to_str())
    core.post_processor = None
    if isinstance(core.decoder, decoders.Metaspace) and not any(map(_byte_token.fullmatch, core.get_vocab())):
        # mistral.rs rejects this decoder, but not an equal sequence with a step that decodes byte tokens.
        blank = decoders.Replace(core.decoder.replacement, " ")
        core.decoder = decoders.Sequence([blank, decoders.ByteFallback(), decoders.Fuse()])
    with temporary_files.file("tokenizer.json", core.to_str()) as path:
        yield path
