# SPDX-License-Identifier: Apache-2.0
"""One choice of an answer: token ids of the engine to chunks for the caller."""

from collections.abc import AsyncIterator, Iterator
from typing import Protocol

from dynamo_llm.runtime.engine import Chunk, TokenChunk, TokenRequest, Usage
from dynamo_llm.runtime.pipeline.detokenizer import Detokenizer
from dynamo_llm.runtime.pipeline.logprobs import ChatLogprobs, CompletionLogprobs, RawLogprobs
from dynamo_llm.runtime.stop import StopStrings

#: What engines call the end by a stop token.
_ends = {"eos": "stop", "stop_token": "stop"}


class Text(Protocol):
    """What makes text of tokens."""

    def feed(self, ids: list[int]) -> str:
        """More of the text."""

    def flush(self) -> str:
        """The rest."""


class NoText:
    """In place of a detokenizer, for callers who want token ids only."""

    def feed(self, ids: list[int]) -> str:
        """No text."""
        return ""

    def flush(self) -> str:
        """No text."""
        return ""


class Choice:
    """One choice of an answer, from its first token to its end.

    :param index: its number.
    :param request: what the engine was asked.
    :param text: makes text of the tokens.
    :param stops: ends it at a stop string.
    :param logprobs: makes OpenAI's shape of log-probs; None if they were not asked for.
    :param shown_stops: stop tokens that are shown.
    """

    def __init__(
        self,
        index: int,
        request: TokenRequest,
        text: Detokenizer | NoText,
        stops: StopStrings,
        logprobs: ChatLogprobs | CompletionLogprobs | RawLogprobs | None,
        shown_stops: frozenset[int] = frozenset(),
    ) -> None:
        self.request = request
        self.is_over = False
        """Whether its last chunk was given."""
        self._index = index
        self._text: Text = text
        self._stops = stops
        self._logprobs = logprobs
        self._stop_ids = frozenset(request.stop_token_ids)
        self._shown_stops = shown_stops
        self._count = 0
        self._usage: Usage = {}

    def feed(self, chunk: TokenChunk) -> Chunk:
        """What the caller gets for some tokens.

        :raises ValueError: the engine's log-probs are not as many as its tokens.
        """
        ids = chunk.get("token_ids") or []
        reason = chunk.get("finish_reason")
        if usage := chunk.get("usage"):
            self._usage = usage
        before = self._count
        ids, shown, stop = self._cut(ids)
        self._count += len(ids)
        reason = stop or (_ends.get(reason, reason) if reason else None)
        text = self._show(ids[:shown], before)
        if reason and not self._stops.has_matched:
            text += self._rest()
        if self._stops.has_matched:  # also in what was held back until the end
            reason = "stop"
        result: Chunk = {"text": text, "token_ids": ids, "index": self._index}
        if self._logprobs is not None and ids:
            result["logprobs"] = self._of_logprobs(chunk, ids, shown)
        if delta := chunk.get("delta"):
            result["delta"] = delta
        if reason:
            self._end(result, reason)
        return result

    def _cut(self, ids: list[int]) -> tuple[list[int], int, str | None]:
        """Tokens up to the end of the choice, how many of them are shown, and why it ended if it did."""
        room = self.request.max_tokens - self._count
        if not self._stop_ids.isdisjoint(ids):
            for at, token in enumerate(ids[:room]):
                if token in self._stop_ids and self._count + at >= self.request.min_tokens:
                    return ids[: at + 1], at + (token in self._shown_stops), "stop"
        if len(ids) >= room:
            return ids[:room], room, "length"
        return ids, len(ids), None

    def _show(self, ids: list[int], before: int) -> str:
        if not ids:
            return ""
        free = self.request.min_tokens - before
        if free <= 0:
            return self._stops.feed(self._text.feed(ids))
        # Until min_tokens no stop string ends it.
        text = self._text.feed(ids[:free])
        return text + self._stops.feed(self._text.feed(ids[free:])) if len(ids) > free else text

    def _rest(self) -> str:
        text = self._stops.feed(self._text.flush())
        return text if self._stops.has_matched else text + self._stops.flush()

    def _of_logprobs(self, chunk: TokenChunk, ids: list[int], shown: int) -> dict[str, object]:
        given = chunk.get("logprobs") or []
        if len(given) < len(ids):
            raise ValueError(f"the engine gave {len(given)} log-probs for {len(ids)} tokens")
        assert self._logprobs is not None
        return self._logprobs.of(ids[:shown], given[:shown])

    def _end(self, result: Chunk, reason: str) -> None:
        self.is_over = True
        result["finish_reason"] = reason
        result["usage"] = {
            **self._usage,
            "prompt_tokens": len(self.request.token_ids),
            "completion_tokens": self._count,
        }

    def finish(self) -> Chunk:
        """The last chunk of a choice that the engine ended without a word."""
        result: Chunk = {"text": self._rest(), "index": self._index}
        self._end(result, "stop")
        return result

    async def over_async(self, answer: AsyncIterator[TokenChunk]) -> AsyncIterator[Chunk]:
        """The chunks of an engine's answer; that is closed as soon as the choice is over."""
        try:
            async for chunk in answer:
                yield self.feed(chunk)
                if self.is_over:
                    return
            yield self.finish()
        finally:
            if close := getattr(answer, "aclose", None):
                await close()

    def over(self, answer: Iterator[TokenChunk]) -> Iterator[Chunk]:
        """The same in a thread."""
        try:
            for chunk in answer:
                yield self.feed(chunk)
                if self.is_over:
                    return
            yield self.finish()
        finally:
            if close := getattr(answer, "close", None):
                close()
