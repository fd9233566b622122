# SPDX-License-Identifier: Apache-2.0
"""Converts the chunks of mistral.rs for one choice of an answer to the library's chunks."""

import math
from collections.abc import Sequence
from typing import Any

from dynamo_llm import _core
from dynamo_llm.runtime.engine import Chunk, TokenLogprob, Usage
from dynamo_llm.runtime.engines.mistralrs.request import Request
from dynamo_llm.runtime.engines.mistralrs.vocabulary import Vocabulary
from dynamo_llm.runtime.pipeline.forced_call import ForcedCall
from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer

#: Finish reasons of mistral.rs that OpenAI's API names differently.
_reasons = {"canceled": "stop"}
#: Replaces minus infinity, which JSON does not have. It is the log-prob of tokens that a grammar excludes.
_least_logprob = -9999.0


class Answer:
    """Converts one choice of an answer, from its first token to its end.

    Text, stop strings, log-probs, and token counts are derived from the token ids, as for a token-level
    engine. Only reasoning, and tool calls that the model makes by its own choice, are parsed by mistral.rs.

    :param index: index of the choice.
    :param prompt: token ids that the answer continues.
    :param ends: ids of the tokens that end the answer.
    :param is_parsed: whether mistral.rs parses the text for reasoning or tool calls.
    """

    def __init__(
        self,
        index: int,
        request: Request,
        prompt: list[int],
        tokenizer: Tokenizer,
        vocabulary: Vocabulary,
        ends: frozenset[int],
        is_parsed: bool,
    ) -> None:
        self.has_ended = False
        """Whether the chunk with the finish reason was returned."""
        self.usage: Usage = {"prompt_tokens": len(prompt), "completion_tokens": 0}
        """Token counts; complete once the answer has ended."""
        self._index = index
        self._request = request
        self._text = _core.TokenDecoder(tokenizer.vocabulary, prompt)
        self._vocabulary = vocabulary
        self._ends = ends
        self._is_parsed = is_parsed
        self._stops = _core.StopStrings(request.settings.stops, request.settings.includes_stop)
        self._forced = ForcedCall() if request.tools.is_forced else None
        self._count = 0
        self._last_id = -1
        self._shown = True
        self._is_thinking = False
        self._has_hidden_end = True  # whether mistral.rs counts the EOS without reporting it
        # The text until mistral.rs reports some, since it strips white space from an answer's beginning.
        self._beginning: str | None = "" if is_parsed else None
        self._alternatives = request.settings.logprobs or 0
        self._logprobs: _core.TokenLogprobs | None = None
        if request.settings.logprobs is not None:
            form = (
                "chat"
                if request.settings.is_chat
                else "completion_top"
                if self._alternatives
                else "completion"
            )
            self._logprobs = _core.TokenLogprobs(form, tokenizer.vocabulary, prompt)

    def chunks(self, choice: Any, counts: Any) -> list[Chunk]:
        """Converts one chunk of mistral.rs.

        :param choice: a ChunkChoice of mistral.rs.
        :param counts: a Usage of mistral.rs; None before the end.
        """
        # Each access to an attribute creates a new object, so read each only once.
        given, reason, message = choice.logprobs, choice.finish_reason, choice.delta
        ids = [] if given is None else self._vocabulary.ids(given)
        ended_at = counts.completion_tokens if reason == "stop" and counts is not None else None
        content, is_cut = self._content(ids, message, bool(reason), ended_at)
        reason = "stop" if is_cut else reason
        last: Chunk = {"index": self._index, "text": content}
        delta: dict[str, Any] = {}
        calls: list[dict[str, Any]] = []
        if self._forced is not None:
            last["text"] = ""
            calls = self._forced.feed(content)
            if reason:
                calls += self._forced.finish()
                reason = "tool_calls" if reason == "stop" else reason
            if calls:
                delta.update(calls.pop())
        elif self._is_parsed and not is_cut:
            delta = self._delta(message, self._lost(ended_at))
        if delta:
            last["delta"] = delta
        if ids and self._logprobs is not None and self._shown:
            last["logprobs"] = self._logprobs.of(ids[-1:], [_logprob(given, self._alternatives)])
        if reason:
            last["finish_reason"] = _reasons.get(reason, reason)
            self.has_ended = True
            self.usage["completion_tokens"] = self._count
            if not is_cut and counts is not None:
                self.usage = usage_of(counts)
        return [*(Chunk(index=self._index, delta=call) for call in calls), last]

    def _content(self, ids: list[int], message: Any, is_last: bool, ended_at: int | None) -> tuple[str, bool]:
        """Returns the text of a chunk, and whether the answer ends there, at a stop string or an end token.

        :param ended_at: see :meth:`_lost`.
        """
        text, self._shown = "", True
        for at, id in enumerate(ids):
            self._count += 1
            if id in self._ends:
                self._shown = False
                if not self._is_parsed:
                    text += self._stops.feed(self._text.flush())
                elif is_last:
                    self._has_hidden_end = False
                    break  # mistral.rs ends the answer, too, and reports the held-back beginning of a marker
                return text + self._rest(), True
            piece = self._text.feed([id])
            if self._is_parsed:
                if self._beginning is not None:
                    self._beginning += piece
                continue
            text += self._stops.feed(piece)
            if self._stops.has_matched:
                self._shown = at == len(ids) - 1
                return text, True
        if self._is_parsed:
            self._is_thinking = bool(message.reasoning_content) or (self._is_thinking and not message.content)
            content = self._parsed(ids, message.content or "")
            text = self._stops.feed(content if self._is_thinking else content + self._lost(ended_at))
        elif is_last:
            text += self._stops.feed(self._text.flush())
        if is_last and not self._stops.has_matched:
            text += self._rest()
        return text, self._stops.has_matched

    def _lost(self, ended_at: int | None) -> str:
        """Returns the text of a last token that mistral.rs counts but does not report: a "<" before an EOS.

        :param ended_at: number of tokens, with the EOS, of an answer that an EOS ended; None for any other
            chunk.
        """
        return "<" if ended_at is not None and ended_at == self._count + self._has_hidden_end + 1 else ""

    def _rest(self) -> str:
        return "" if self._stops.has_matched else self._stops.flush()

    def _parsed(self, ids: list[int], content: str) -> str:
        """Returns text of mistral.rs with the white space that it stripped, without special tokens."""
        if ids:
            self._last_id = ids[-1]
        if special := self._vocabulary.special.get(self._last_id):
            content = content.removesuffix(special)
        if content and self._beginning is not None:
            left_out = self._beginning.removesuffix(content)
            self._beginning = None
            if left_out.isspace():
                return left_out + content
        return content

    def _delta(self, message: Any, lost: str) -> dict[str, Any]:
        """Returns the reasoning and the tool calls that mistral.rs found."""
        delta: dict[str, Any] = {}
        if its_calls := message.tool_calls:
            found = _of_calls(its_calls)
            delta["tool_calls"] = found if self._request.may_call_several else found[:1]
        if thought := (message.reasoning_content or "") + (lost if self._is_thinking else ""):
            self._beginning = None
            delta["reasoning_content"] = thought
        return delta


def _logprob(given: Any, count: int) -> TokenLogprob:
    """Converts a ResponseLogprob of mistral.rs, with the given number of alternatives."""
    top = [(other.token, _finite(other.logprob)) for other in given.top_logprobs[:count]]
    return {"logprob": _finite(given.logprob), "top": top}


def _finite(logprob: float) -> float:
    return _least_logprob if math.isnan(logprob) else max(logprob, _least_logprob)


def usage_of(given: Any) -> Usage:
    """Returns the token counts of a choice."""
    counts: Usage = {"prompt_tokens": given.prompt_tokens, "completion_tokens": given.completion_tokens}
    details = given.prompt_tokens_details
    if details is not None:
        counts["cached_tokens"] = details.cached_tokens
    return counts


def _of_calls(calls: Sequence[Any]) -> list[dict[str, Any]]:
    """Converts tool calls that mistral.rs found in an answer to OpenAI's form."""
    functions = [{"name": call.function.name, "arguments": call.function.arguments} for call in calls]
    return [
        {"index": call.index, "id": call.id, "type": "function", "function": function}
        for call, function in zip(calls, functions, strict=True)
    ]
