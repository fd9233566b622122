# SPDX-License-Identifier: Apache-2.0
"""The end of a text that comes token by token: all that is needed to go on with it.

A token's text depends on those before it: whether a space stands in front, whether its bytes end a character.
So some tokens whose text was given are kept, as context, and what is new is decoded together with them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

#: What stands for bytes that are no UTF-8: those of a character that is not whole yet.
_replacement = "\ufffd"

#: Tokens that the beginning of a character may lie in: it has three bytes at most.
_longest_beginning = 3

#: Tokens that may wait for the end of a character; where more do, the bytes are no UTF-8 and never will be.
_most_pending = 32

#: Tokens of context, or, as a character may begin in an earlier one, up to twice as many.
_context = 4


@dataclass(frozen=True)
class Tail:
    """The last tokens of a text. It is not changed: :meth:`advance` makes another."""

    context: list[int] = field(default_factory=list)
    """The last ones whose text was given."""
    pending: list[int] = field(default_factory=list)
    """Those after them, whose text was not."""

    @classmethod
    def of_numbers(cls, numbers: Sequence[int]) -> "Tail":
        """The tail that :attr:`numbers` came from."""
        if not numbers:
            return cls()
        border = 1 + numbers[0]
        return cls(list(numbers[1:border]), list(numbers[border:]))

    @property
    def numbers(self) -> list[int]:
        """How many tokens of context there are, and all tokens; none at the beginning of a text."""
        tokens = self.context + self.pending
        return [len(self.context), *tokens] if tokens else []

    def advance(
        self, decode: Callable[[list[int]], str], ids: Sequence[int], is_last: bool = False
    ) -> tuple[str, "Tail"]:
        """What tokens add to the text, and its new tail.

        :param decode: makes text of tokens.
        :param ids: the tokens; none that ``decode`` skips.
        :param is_last: the text ends: nothing is kept back, and the tail is that of an empty text.
        """
        tokens = self.context + self.pending + list(ids)
        given = len(decode(self.context)) if self.context else 0
        text, kept_back = self._whole(decode, tokens, is_last)
        if is_last:
            return text[given:], Tail()
        if len(text) <= given:  # what leaves no text is no context
            pending = tokens[len(self.context) :]
            if len(pending) > _most_pending:
                pending = pending[len(pending) - kept_back :]
            return "", Tail(self.context, pending)
        border = len(tokens) - kept_back
        new = tokens[len(self.context) : border]
        return text[given:], Tail(self._new_context(decode, new, text), tokens[border:])

    def _whole(self, decode: Callable[[list[int]], str], tokens: list[int], is_last: bool) -> tuple[str, int]:
        """The text up to a character that is not whole yet, and how many tokens that begins in."""
        whole = decode(tokens)
        if is_last or not whole.endswith(_replacement):
            return whole, 0
        new = len(tokens) - len(self.context)
        for kept_back in range(1, min(_longest_beginning, new) + 1):
            text = decode(tokens[:-kept_back])
            if not text.endswith(_replacement):
                return text, kept_back
        return (whole, 0) if new > _most_pending else ("", new)

    @staticmethod
    def _new_context(decode: Callable[[list[int]], str], new: list[int], text: str) -> list[int]:
        """The new tokens, or, of many, so few of the last ones that mean alone what they mean in the text."""
        if len(new) > 2 * _context:
            for count in range(_context, 2 * _context):
                alone = decode(new[-count:])
                if alone and not alone.startswith(_replacement) and text.endswith(alone):
                    return new[-count:]
        return new
