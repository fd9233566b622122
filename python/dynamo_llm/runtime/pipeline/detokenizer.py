# SPDX-License-Identifier: Apache-2.0
"""Decodes the token ids of an answer to text while they stream."""

import copy
import json
from collections.abc import Iterable, Sequence

from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer

#: Last tokens of a prompt to decode, to see whether it ends within a code point.
_end = 16


class Detokenizer:
    """Decodes an answer. All token streams in this package are decoded by this class.

    The concatenated texts equal the result of :meth:`Tokenizer.decode` for prompt and answer, without the
    prompt's text. No text ends within a code point; a code point that begins in the prompt and ends in the
    answer belongs to the answer. The cost per token does not depend on the length of prompt and answer.

    :param prompt: token ids that the answer continues.
    """

    def __init__(
        self, tokenizer: Tokenizer, prompt: Sequence[int] = (), skip_special_tokens: bool = True
    ) -> None:
        self._tokenizer = tokenizer
        self._skipped = tokenizer.special_ids if skip_special_tokens else frozenset()
        self._text = tokenizer.decoder.begin()
        self._replaced = ""
        """The end of the prompt's text that later tokens may still change, with U+FFFD for an incomplete code
        point.
        """
        if prompt:
            self._begin(prompt)

    def _begin(self, prompt: Sequence[int]) -> None:
        at = 0
        if self._tokenizer.decoder.forgets:
            # It is enough to decode the beginning, up to the first text, and the end.
            while at < len(prompt) and not self._text.is_settled:
                self._text.feed(self._tokens(prompt[at : at + 1]))
                at += 1
            start, wanted = len(prompt), _end
            while start > at and wanted:
                start -= 1
                wanted -= any(self._tokens(prompt[start : start + 1]))
            at = start
        self._text.feed(self._tokens(prompt[at:]))
        self._replaced = self._text.copy().finish()

    def _tokens(self, ids: Iterable[int]) -> list[str]:
        token_of, skipped = self._tokenizer.token, self._skipped
        return [token for id in ids if id not in skipped and (token := token_of(id)) is not None]

    def feed(self, ids: Iterable[int]) -> str:
        """Returns the text that the tokens add, without an incomplete code point at its end."""
        return self._new(self._text.feed(self._tokens(ids)))

    def flush(self) -> str:
        """Ends the answer. Returns the rest of its text, with U+FFFD for an incomplete code point."""
        return self._new(self._text.finish())

    def _new(self, text: str) -> str:
        while text and self._replaced:
            if text[0] != self._replaced[0]:
                self._replaced = ""
                break
            text, self._replaced = text[1:], self._replaced[1:]
        return text

    def copy(self) -> "Detokenizer":
        """Returns an independent copy with the same state."""
        other = copy.copy(self)
        other._text = self._text.copy()
        return other

    @property
    def numbers(self) -> list[int]:
        """The state, for a detokenizer with the same parameters: a few dozen integers, at least one."""
        return list(json.dumps([self._replaced, self._text.state], separators=(",", ":")).encode())

    @numbers.setter
    def numbers(self, numbers: Sequence[int]) -> None:
        self._replaced, self._text.state = json.loads(bytes(numbers))
