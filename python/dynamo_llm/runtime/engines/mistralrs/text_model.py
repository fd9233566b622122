# SPDX-License-Identifier: Apache-2.0
"""Provides for a text model of mistral.rs what the pipeline provides for token-level engines."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tokenizers import decoders

from dynamo_llm.runtime.engine import Usage
from dynamo_llm.runtime.engines.mistralrs import temporary_files
from dynamo_llm.runtime.engines.mistralrs.answer import Answer
from dynamo_llm.runtime.engines.mistralrs.end_tokens import EndTokens
from dynamo_llm.runtime.engines.mistralrs.model import check_added
from dynamo_llm.runtime.engines.mistralrs.prompt import Prompt, Prompts
from dynamo_llm.runtime.engines.mistralrs.request import Request
from dynamo_llm.runtime.engines.mistralrs.templates import Templates
from dynamo_llm.runtime.engines.mistralrs.vocabulary import Vocabulary
from dynamo_llm.runtime.pipeline.decoder_stages import byte_token
from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer


class TextModel:
    """Converts bodies to prompts, and chunks of mistral.rs to answers.

    :param tokenizer: the model's tokenizer.
    :param templates: its chat templates.
    :param ends: the tokens that end its answers.
    """

    def __init__(self, tokenizer: Tokenizer, templates: Templates, ends: EndTokens) -> None:
        self.templates = templates
        self.ends = ends
        self._tokenizer = tokenizer
        self._prompts = Prompts(tokenizer, templates)
        self._vocabulary = Vocabulary(tokenizer)
        self._thinks = templates.for_engine() is not None

    def prompt(
        self, body: Mapping[str, Any], is_cancelled: Callable[[], bool], context_length: int | None
    ) -> Prompt:
        """Returns the prompt of a chat or a completion.

        :param is_cancelled: returns whether the request was cancelled.
        :param context_length: the model's context length.
        :raises DynamoError: see :meth:`Prompts.of`.
        """
        return self._prompts.of(body, is_cancelled, context_length)

    def answers(self, request: Request, prompt: Prompt, ends: frozenset[int]) -> list[Answer]:
        """Returns the choices of an answer, before their first tokens.

        :param ends: ids of the tokens that end it.
        """
        may_call = request.tools.schemas is not None and not request.tools.are_off
        is_parsed = not request.is_exact and (self._thinks or may_call)
        return [
            Answer(index, request, prompt.ids, self._tokenizer, self._vocabulary, ends, is_parsed)
            for index in range(request.choices)
        ]

    @staticmethod
    def usage(answers: list[Answer]) -> Usage:
        """Returns the token counts of a request with these answers. The prompt is counted only once."""
        total: Usage = {**answers[0].usage}
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
    if isinstance(core.decoder, decoders.Metaspace) and not any(map(byte_token.fullmatch, core.get_vocab())):
        # mistral.rs rejects this decoder, but accepts an equivalent sequence if one of its steps decodes byte
        # tokens.
        blank = decoders.Replace(core.decoder.replacement, " ")
        core.decoder = decoders.Sequence([blank, decoders.ByteFallback(), decoders.Fuse()])
    with temporary_files.file("tokenizer.json", core.to_str()) as path:
        yield path
