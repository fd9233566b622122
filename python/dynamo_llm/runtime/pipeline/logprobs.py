# SPDX-License-Identifier: Apache-2.0
"""Converts log-probs to OpenAI's forms."""

from collections.abc import Mapping, Sequence
from typing import Any

from dynamo_llm.runtime.engine import TokenLogprob
from dynamo_llm.runtime.pipeline.detokenizer import Detokenizer
from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer


def token_name(data: bytes) -> str:
    r"""Returns a token's text, or its bytes as in ``bytes:\xf0`` if it is not valid UTF-8 by itself."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


class ChatLogprobs:
    """Converts log-probs of a chat: ``{"content": [{"token", "logprob", "bytes", "top_logprobs"}]}``."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def of(self, ids: Sequence[int], logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
        """Returns the log-probs of the tokens."""
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
        return {"token": token_name(data), "logprob": logprob, "bytes": list(data)}


class CompletionLogprobs:
    """Converts log-probs of a completion to the lists ``tokens``, ``token_logprobs``, ``top_logprobs``, and
    ``text_offset`` (in characters from the beginning of the answer).

    :param tokenizer: the model's tokenizer.
    :param has_top: whether ``top_logprobs`` were requested.
    :param prompt: token ids that the answer continues.
    :param skip_special_tokens: whether special tokens are omitted from the answer's text.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        has_top: bool,
        prompt: Sequence[int] = (),
        skip_special_tokens: bool = True,
    ) -> None:
        self._tokenizer = tokenizer
        self._has_top = has_top
        self._text = Detokenizer(tokenizer, prompt, skip_special_tokens)
        self._offset = 0

    def of(self, ids: Sequence[int], logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
        """Returns the log-probs of the tokens."""
        names, offsets, tops = [], [], []
        for id, logprob in zip(ids, logprobs, strict=True):
            names.append(token_name(self._tokenizer.token_bytes(id)))
            # A token that completes a code point has the offset of that code point's beginning.
            offsets.append(self._offset)
            self._offset += len(self._text.feed([id]))
            if self._has_top:
                tops.append(self._by_name({id: logprob["logprob"], **dict(logprob.get("top", ()))}))
        return {
            "tokens": names,
            "token_logprobs": [logprob["logprob"] for logprob in logprobs],
            "top_logprobs": tops,
            "text_offset": offsets,
        }

    def _by_name(self, logprobs: Mapping[int, float]) -> dict[str, float]:
        """Maps texts to log-probs. If several tokens have the same text, all but the first are named by id:
        ``token_id:7``.
        """
        result: dict[str, float] = {}
        for id, logprob in logprobs.items():
            name = token_name(self._tokenizer.token_bytes(id))
            result[name if name not in result else f"token_id:{id}"] = logprob
        return result


class RawLogprobs:
    """Converts log-probs to ids without texts: ``{"tokens": [{"logprob": -0.1, "top": [[id, logprob],
    ...]}]}``.
    """

    @staticmethod
    def of(ids: Sequence[int], logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
        """Returns the log-probs of the tokens."""
        return {"tokens": [logprob for _, logprob in zip(ids, logprobs, strict=True)]}
