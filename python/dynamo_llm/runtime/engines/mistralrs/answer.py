# SPDX-License-Identifier: Apache-2.0
"""One choice of an answer: mistral.rs' chunks as ours."""

import codecs
from typing import Any

from dynamo_llm.runtime.engine import Chunk, Usage
from dynamo_llm.runtime.engines.mistralrs import logprobs, tools
from dynamo_llm.runtime.engines.mistralrs.request import Request
from dynamo_llm.runtime.stop import StopStrings


class Answer:
    """One choice of an answer, as it comes."""

    def __init__(self, index: int, request: Request) -> None:
        self._index = index
        self._request = request
        self._stops = StopStrings(request.stops, request.keeps_stop)
        self._forced = tools.ForcedCall() if request.tools.is_forced else None
        self._length = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def is_cut(self) -> bool:
        """Whether a stop string came."""
        return self._stops.has_matched

    def chunks(self, choice: Any) -> list[Chunk]:
        """What a chunk of mistral.rs is; the last one of it has what counts once."""
        # Each look at an attribute makes a new object of it.
        said = choice.delta
        given_logprobs = choice.logprobs
        reason = choice.finish_reason
        content = self._text(said, given_logprobs, reason)
        delta: dict[str, Any] = {}
        calls: list[dict[str, Any]] = []
        if self._forced is not None:
            calls = self._forced.feed(content)
            if reason:
                calls += self._forced.finish()
                reason = "tool_calls" if reason == "stop" else reason
            content = ""
        elif its_calls := said.tool_calls:
            found = tools.of_answer(its_calls)
            delta["tool_calls"] = found if self._request.may_call_several else found[:1]
        if not self._request.is_exact and (thought := said.reasoning_content):
            delta["reasoning_content"] = thought
        text = self._stops.feed(content)
        if self._stops.has_matched:
            reason = "stop"
        last: Chunk = {"index": self._index, "text": text + self._stops.flush() if reason else text}
        if reason:
            last["finish_reason"] = _reasons.get(reason, reason)
        if given_logprobs is not None and self._request.logprobs is not None and not self._stops.has_matched:
            last["logprobs"] = self._logprobs(given_logprobs)
        self._length += len(content)
        if calls:
            delta.update(calls.pop())
        if delta:
            last["delta"] = delta
        return [*(Chunk(index=self._index, delta=call) for call in calls), last]

    def _text(self, said: Any, given_logprobs: Any, reason: str | None) -> str:
        """The text of a chunk."""
        if not self._request.is_exact:
            return said.content or ""
        data = b"" if given_logprobs is None else bytes(given_logprobs.bytes or b"")
        return self._decoder.decode(data, bool(reason))

    def _logprobs(self, given: Any) -> dict[str, Any]:
        count = self._request.logprobs or 0
        if self._request.is_chat:
            return logprobs.of_chat(given, count)
        return logprobs.of_completion(given, count, self._length)


#: mistral.rs' reasons that OpenAI calls otherwise.
_reasons = {"canceled": "stop"}


def usage_of(given: Any) -> Usage:
    """Token counts of a choice."""
    counts: Usage = {"prompt_tokens": given.prompt_tokens, "completion_tokens": given.completion_tokens}
    details = given.prompt_tokens_details
    if details is not None:
        counts["cached_tokens"] = details.cached_tokens
    return counts


def sum_of(choices: list[Usage]) -> Usage:
    """The usage of a request of several choices: its prompt counts once."""
    total: Usage = {**choices[0]}
    total["completion_tokens"] = sum(usage["completion_tokens"] for usage in choices)
    return total
