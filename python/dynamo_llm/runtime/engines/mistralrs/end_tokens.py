# SPDX-License-Identifier: Apache-2.0
"""Finds the tokens that end an answer."""

from collections.abc import Iterable
from typing import NamedTuple

from dynamo_llm.runtime.pipeline.request_body import RequestSettings
from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer


class AnswerEndTokens(NamedTuple):
    """The tokens that end one answer."""

    ids: frozenset[int]
    """Ids of all of them."""
    texts: list[str]
    """Texts of the tokens that mistral.rs detects by itself if they are given as stop sequences. Such tokens
    must be special: the text of another token would also be found within longer tokens.
    """


class EndTokens:
    """All tokens that a model declares to end an answer. mistral.rs detects only some of them.

    :param declared: their ids.
    :param tokenizer: the model's tokenizer.
    """

    def __init__(self, declared: Iterable[int], tokenizer: Tokenizer) -> None:
        self._declared = frozenset(declared)
        self._tokenizer = tokenizer

    def of(self, settings: RequestSettings) -> AnswerEndTokens:
        """Returns the tokens that end an answer: the model's, unless they are ignored, and the request's."""
        declared = frozenset() if settings.ignore_eos else self._declared
        ids = declared.union(settings.stop_token_ids)
        texts = [self._text_of_special(id) for id in sorted(ids)]
        return AnswerEndTokens(ids, [text for text in texts if text is not None])

    def _text_of_special(self, id: int) -> str | None:
        if id not in self._tokenizer.special_ids:
            return None
        text = self._tokenizer.core.id_to_token(id)
        if text is None or self._tokenizer.encode_now(text) != [id]:
            return None
        return text
