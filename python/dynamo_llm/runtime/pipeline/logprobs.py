# SPDX-License-Identifier: Apache-2.0
"""Log-probs in OpenAI's shapes."""

from collections.abc import Sequence
from typing import Any

from dynamo_llm.runtime.engine import TokenLogprob
from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer


def _name(data: bytes) -> str:
    """A token's text; one that is no UTF-8 by itself is named by its bytes."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


class ChatLogprobs:
    """Those of a chat: ``{"content": [{"token", "logprob", "bytes", "top_logprobs"}]}``."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def of(self, ids: Sequence[int], logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
        """Those of some tokens."""
        return {
            "content": [
                {
                    **self._entry(id, logprob["logprob"]),
                    "top_logprobs": [self._entry(*other) for other in logprob.get("top", ())],
                }
                for id, logprob in zip(ids, logprobs, strict=True)
            ]
        }

    def _entry(self, id: int, logprob: float) -> dict[str, Any]:
        data = self._tokenizer.token_bytes(id)
        return {"token": _name(data), "logprob": logprob, "bytes": list(data)}


class CompletionLogprobs:
    """Those of a completion: lists ``tokens``, ``token_logprobs``, ``top_logprobs`` and ``text_offset``, in
    characters from the beginning of the answer.
    """

    def __init__(self, tokenizer: Tokenizer, has_top: bool) -> None:
        self._tokenizer = tokenizer
        self._has_top = has_top
        self._bytes = b""
        self._characters = 0

    def of(self, ids: Sequence[int], logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
        """Those of some tokens."""
        names, offsets, tops = [], [], []
        for id, logprob in zip(ids, logprobs, strict=True):
            data = self._tokenizer.token_bytes(id)
            names.append(_name(data))
            offsets.append(self._advance(data))
            top = {
                _name(self._tokenizer.token_bytes(other)): value for other, value in logprob.get("top", ())
            }
            tops.append({**top, names[-1]: logprob["logprob"]})
        return {
            "tokens": names,
            "token_logprobs": [logprob["logprob"] for logprob in logprobs],
            "top_logprobs": tops if self._has_top else [],
            "text_offset": offsets,
        }

    def _advance(self, data: bytes) -> int:
        """Where a token begins; then go past it. A token that ends a code point begins where that does."""
        start = self._characters
        self._bytes += data
        # All but an unfinished code point at the end, which has at most three bytes.
        for tail in range(4):
            head = self._bytes[: len(self._bytes) - tail]
            try:
                self._characters += len(head.decode())
            except UnicodeDecodeError:
                continue
            self._bytes = self._bytes[len(head) :]
            return start
        self._characters += len(self._bytes.decode(errors="replace"))
        self._bytes = b""
        return start


class RawLogprobs:
    """Those of token ids without texts: ``{"tokens": [{"logprob": -0.1, "top": [[id, logprob], ...]}]}``."""

    @staticmethod
    def of(ids: Sequence[int], logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
        """Those of some tokens."""
        return {"tokens": [logprob for _, logprob in zip(ids, logprobs, strict=True)]}
