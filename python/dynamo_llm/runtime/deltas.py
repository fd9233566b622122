# SPDX-License-Identifier: Apache-2.0
"""Makes chunks of the events of an OpenAI stream."""

from collections.abc import Iterator
from typing import Any

from dynamo_llm.errors import EngineFailedError
from dynamo_llm.runtime.engine import Chunk, Usage


def usage_of(given: dict[str, Any]) -> Usage:
    """Token counts as OpenAI has them, as the library has them."""
    usage: Usage = {
        "prompt_tokens": given.get("prompt_tokens") or 0,
        "completion_tokens": given.get("completion_tokens") or 0,
    }
    if cached := (given.get("prompt_tokens_details") or {}).get("cached_tokens"):
        usage["cached_tokens"] = cached
    return usage


class Deltas:
    """The stream of one answer. Finish reasons are kept until its end, for only then it is known whether it
    ended well.

    :param choices: how many choices there will be.
    """

    def __init__(self, choices: int) -> None:
        self._choices = choices
        self._ends: dict[int, Chunk] = {}
        self._usage: Usage | None = None

    def feed(self, event: dict[str, Any]) -> Iterator[Chunk]:
        """The chunks of one event, a ``chat.completion.chunk`` or a ``text_completion``."""
        if usage := event.get("usage"):
            self._usage = usage_of(usage)
        for choice in event.get("choices") or []:
            index = choice.get("index") or 0
            if not 0 <= index < self._choices:
                raise EngineFailedError(
                    f"the server sent choice {index}, but the request has {self._choices} choice(s)"
                )
            if reason := choice.get("finish_reason"):
                self._ends[index] = {"index": index, "finish_reason": reason}
            if chunk := self._chunk(choice):
                chunk["index"] = index
                yield chunk

    def end(self) -> Iterator[Chunk]:
        """The last chunk of each choice; the very last one has the token counts.

        :raises EngineFailedError: a choice has no finish reason: something between here and the model broke.
        """
        missing = [index for index in range(self._choices) if index not in self._ends]
        if missing:
            raise EngineFailedError(
                f"the server ended the stream without a finish_reason of choice {missing[0]}: "
                f"the answer is not whole"
            )
        *others, last = (self._ends[index] for index in range(self._choices))
        yield from others
        if self._usage is not None:
            last["usage"] = self._usage
        yield last

    @staticmethod
    def _chunk(choice: dict[str, Any]) -> Chunk:
        delta = choice.get("delta") or {}
        chunk: Chunk = {}
        if text := choice.get("text") or delta.get("content"):
            chunk["text"] = text
        if more := {key: value for key, value in delta.items() if key not in _plain and value is not None}:
            chunk["delta"] = more
        if logprobs := choice.get("logprobs"):
            chunk["logprobs"] = logprobs
        if token_ids := choice.get("token_ids"):  # vLLM and SGLang, if they were asked
            chunk["token_ids"] = token_ids
        return chunk


# What the library says by itself of each delta.
_plain = ("role", "content")
