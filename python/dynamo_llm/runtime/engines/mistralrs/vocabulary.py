# SPDX-License-Identifier: Apache-2.0
"""Finds the token ids of an answer by the bytes that mistral.rs reports."""

from typing import Any

from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer


class Vocabulary:
    """The tokens of a model, by their bytes.

    mistral.rs streams texts. With log-probs it also reports the bytes of each token, but ids only for the
    alternatives. The pipeline derives texts and log-probs from ids, so ids are looked up here.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.special = {id: tokenizer.core.id_to_token(id) for id in tokenizer.special_ids}
        """Texts of the special tokens, by id."""
        self._ids: dict[bytes, int] = {}
        # For tokens with the same bytes, _ids has one of them, and this has the others.
        self._others: dict[bytes, list[int]] = {}
        bytes_of = tokenizer.vocabulary.bytes_of
        for id in range(tokenizer.vocab_size):
            data = bytes_of(id)
            if self._ids.setdefault(data, id) != id:
                self._others.setdefault(data, []).append(id)

    def ids(self, given: Any) -> list[int]:
        """Returns the tokens since the last log-prob: one, unless mistral.rs held some back to look for
        markers.

        :param given: a ResponseLogprob of mistral.rs, whose log-prob is that of the last token.
        """
        data = bytes(given.bytes or b"")
        id = self._ids.get(data)
        if id is not None and data not in self._others:
            return [id]
        if id is not None:
            return [next((one for one in self._likely(given) if one in (id, *self._others[data])), id)]
        for last in self._likely(given):
            end = self._tokenizer.token_bytes(last)
            if end and data.endswith(end):
                return [*self._encode(data[: -len(end)]), last]
        return self._encode(data)

    def _likely(self, given: Any) -> list[int]:
        """Returns the alternatives that have the sampled token's log-prob."""
        return [other.token for other in given.top_logprobs if other.logprob == given.logprob]

    def _encode(self, data: bytes) -> list[int]:
        """Returns the tokens for the bytes of several, as the tokenizer would split them, or byte by byte."""
        if (id := self._ids.get(data)) is not None:
            return [id]
        text = data.decode(errors="replace")
        ids = self._tokenizer.encode_now(text)
        if b"".join(map(self._tokenizer.token_bytes, ids)) == data:
            return ids
        single = [self._ids.get(data[at : at + 1]) for at in range(len(data))]
        return [id for id in single if id is not None]
