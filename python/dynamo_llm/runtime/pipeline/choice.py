# SPDX-License-Identifier: Apache-2.0
"""Converts the tokens of one choice of an answer to chunks."""

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator

from dynamo_llm.runtime.engine import Chunk, TokenChunk, TokenRequest, Usage
from dynamo_llm.runtime.pipeline.detokenizer import Detokenizer
from dynamo_llm.runtime.pipeline.logprobs import ChatLogprobs, CompletionLogprobs, RawLogprobs
from dynamo_llm.runtime.stop_strings import StopStrings

#: Finish reasons that OpenAI's API names differently.
_finish_reasons = {"eos": "stop", "stop_token": "stop"}


class Choice:
    """Converts one choice of an answer, from its first token to its last.

    :param detokenizer: None for callers that receive only token ids.
    :param logprobs: None if they were not requested.
    :param shown_stops: stop tokens that are part of the answer's text.
    """

    def __init__(
        self,
        index: int,
        request: TokenRequest,
        detokenizer: Detokenizer | None,
        stops: StopStrings,
        logprobs: ChatLogprobs | CompletionLogprobs | RawLogprobs | None,
        shown_stops: frozenset[int] = frozenset(),
    ) -> None:
        self.request = request
        self.has_ended = False
        """Whether the last chunk was returned."""
        self._index = index
        self._detokenizer = detokenizer
        self._stops = stops
        self._logprobs = logprobs
        self._stop_ids = frozenset(request.stop_token_ids)
        self._shown_stops = shown_stops
        self._count = 0
        self._usage: Usage = {}

    def feed(self, chunk: TokenChunk) -> Chunk:
        """Converts tokens from the engine to a chunk.

        :raises ValueError: the engine yielded fewer log-probs than tokens.
        """
        ids = chunk.get("token_ids") or []
        reason = chunk.get("finish_reason")
        if usage := chunk.get("usage"):
            self._usage = usage
        ids, shown, stop = self._cut(ids)
        text, fed = self._show(ids[:shown])
        if self._stops.has_matched:
            ids, shown, stop = ids[:fed], fed, "stop"
        self._count += len(ids)
        reason = stop or (_finish_reasons.get(reason, reason) if reason else None)
        if reason and not self._stops.has_matched:
            text += self._rest()
        if self._stops.has_matched:  # the stop string may have been in the text held back until the end
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
        """Returns the tokens up to the end of the choice, how many are shown, and the reason if it ends."""
        left = self.request.max_tokens - self._count
        if not self._stop_ids.isdisjoint(ids):
            for at, token in enumerate(ids[:left]):
                if token in self._stop_ids and self._count + at >= self.request.min_tokens:
                    return ids[: at + 1], at + (token in self._shown_stops), "stop"
        if len(ids) >= left:
            return ids[:left], left, "length"
        return ids, len(ids), None

    def _show(self, ids: list[int]) -> tuple[str, int]:
        """Returns the text of the tokens, up to a stop string, and how many tokens that text takes."""
        if self._detokenizer is None:
            return "", len(ids)
        # A stop string does not end the choice before min_tokens.
        free = min(max(self.request.min_tokens - self._count, 0), len(ids))
        text = self._detokenizer.feed(ids[:free]) if free else ""
        rest = ids[free:] if free else ids
        if len(rest) < 2 or self._stops.is_empty:
            return (text + self._stops.feed(self._detokenizer.feed(rest)) if rest else text), len(ids)
        before = self._detokenizer.copy(), self._stops.copy()
        new = self._stops.feed(self._detokenizer.feed(rest))
        if not self._stops.has_matched:
            return text + new, len(ids)
        # Feed the tokens again, one by one, to find the one that completed the stop string.
        self._detokenizer, self._stops = before
        for at, token in enumerate(rest):
            text += self._stops.feed(self._detokenizer.feed([token]))
            if self._stops.has_matched:
                return text, free + at + 1
        return text, len(ids)

    def _rest(self) -> str:
        """Returns the text that was held back."""
        if self._detokenizer is None:
            return ""
        text = self._stops.feed(self._detokenizer.flush())
        return text if self._stops.has_matched else text + self._stops.flush()

    def _of_logprobs(self, chunk: TokenChunk, ids: list[int], shown: int) -> dict[str, object]:
        given = chunk.get("logprobs") or []
        if len(given) < len(ids):
            raise ValueError(f"the engine yielded {len(given)} log-probs for {len(ids)} tokens")
        assert self._logprobs is not None
        return self._logprobs.of(ids[:shown], given[:shown])

    def _end(self, result: Chunk, reason: str) -> None:
        self.has_ended = True
        result["finish_reason"] = reason
        result["usage"] = {
            **self._usage,
            "prompt_tokens": len(self.request.token_ids),
            "completion_tokens": self._count,
        }

    def finish(self) -> Chunk:
        """Returns the last chunk of a choice that the engine ended without a finish reason."""
        result: Chunk = {"text": self._rest(), "index": self._index}
        self._end(result, "stop")
        return result

    async def chunks_async(self, answer: AsyncIterator[TokenChunk]) -> AsyncGenerator[Chunk, None]:
        """Converts an engine's answer. Closes the engine's generator as soon as the choice ends."""
        try:
            async for chunk in answer:
                yield self.feed(chunk)
                if self.has_ended:
                    return
            yield self.finish()
        finally:
            if close := getattr(answer, "aclose", None):
                await close()

    def chunks(self, answer: Iterator[TokenChunk]) -> Generator[Chunk, None, None]:
        """Converts the answer of a synchronous generator, as :meth:`chunks_async` does. Runs in a thread."""
        try:
            for chunk in answer:
                yield self.feed(chunk)
                if self.has_ended:
                    return
            yield self.finish()
        finally:
            if close := getattr(answer, "close", None):
                close()
