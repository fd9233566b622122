# SPDX-License-Identifier: Apache-2.0
"""Token ids to text, bit by bit."""

from collections.abc import Sequence

from tokenizers.decoders import DecodeStream

from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer

#: What a decoder writes for bytes that are no code point, or not yet.
_broken = "\ufffd"
#: Tokens of the prompt that tell how the answer begins: with a space, or without.
_context = 6
#: A code point has at most four bytes, so after so many steps without a text none is awaited any more.
_patience = 8


class Detokenizer:
    """Text of an answer whose tokens come bit by bit. A code point that is split over tokens waits until it
    is whole.

    :param prompt: what the answer continues.
    :param skip_special_tokens: whether special tokens are left out.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], skip_special_tokens: bool) -> None:
        self._tokenizer = tokenizer
        self._skip = skip_special_tokens
        self._held: list[int] = []
        self._steps = 0
        self._start(list(prompt[-_context:]))

    def _start(self, context: list[int]) -> None:
        # A context that ends amid a code point would be said again.
        if self._decode(context).endswith(_broken):
            context = []
        self._given = context
        self._stream = DecodeStream(ids=context, skip_special_tokens=self._skip)

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, self._skip)

    def feed(self, ids: list[int]) -> str:
        """What of the text so far can be shown."""
        self._held += ids
        try:
            text = self._stream.step(self._tokenizer.core, ids)
        except Exception:  # a decoder that changes its mind about what it said
            return self._give(0)
        if text is not None:
            self._given, self._held = self._held, []
            self._steps = 0
            return text
        self._steps += 1
        if self._steps < _patience:
            return ""
        # Bytes that are no text, or special tokens. The last three may yet become a code point.
        for later in range(4):
            if not self._decode(self._held[: len(self._held) - later]).endswith(_broken):
                return self._give(later)
        return self._give(0)

    def flush(self) -> str:
        """What is left when the answer has ended."""
        return self._give(0) if self._held else ""

    def _give(self, later: int) -> str:
        """Give what is held back but its last tokens, whole or not."""
        count = len(self._held) - later
        ids, self._held = self._held[:count], self._held[count:]
        self._steps = 0
        known, text = self._decode(self._given), self._decode(self._given + ids)
        new = text[len(known) :] if text.startswith(known) else self._decode(ids)
        if new:
            self._given = ids
        self._start(self._given)
        if self._held:
            self._stream.step(self._tokenizer.core, self._held)
        return new
