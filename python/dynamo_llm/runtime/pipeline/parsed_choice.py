# SPDX-License-Identifier: Apache-2.0
"""Passes the text of a choice through a parser, which finds reasoning and tool calls in it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, TypeVar

from dynamo_llm.runtime.engine import Chunk, TokenChunk
from dynamo_llm.runtime.pipeline.answer_parser import AnswerParser, Found
from dynamo_llm.runtime.pipeline.choice import Choice

_T = TypeVar("_T")

#: Seconds after which a thread stops waiting for the event loop; parsers have shorter limits of their own.
_timeout = 600.0


class ParsedChoice:
    """A choice whose text is parsed. Token ids, log-probs, and token counts stay those of the whole answer.

    :param begin: creates the parser.
    :param may_call_several: whether the answer may have several tool calls; otherwise only the first one is
        kept.
    """

    def __init__(
        self,
        choice: Choice,
        begin: Callable[[], Coroutine[Any, Any, AnswerParser]],
        may_call_several: bool,
    ) -> None:
        self.request = choice.request
        self._choice = choice
        self._begin = begin
        self._may_call_several = may_call_several
        self._loop = asyncio.get_running_loop()
        self._has_calls = False

    async def chunks_async(self, answer: AsyncIterator[TokenChunk]) -> AsyncIterator[Chunk]:
        """Converts an engine's answer, as :meth:`Choice.chunks_async` does."""
        async with contextlib.aclosing(self._choice.chunks_async(answer)) as chunks:
            parser = await self._begin()
            try:
                async for chunk in chunks:
                    for parsed in await self._parse(parser, chunk):
                        yield parsed
            finally:
                await parser.close()

    def chunks(self, answer: Iterator[TokenChunk]) -> Iterator[Chunk]:
        """Converts the answer of a synchronous generator. Runs in a thread, which waits for the parser."""
        with contextlib.closing(self._choice.chunks(answer)) as chunks:
            parser = self._wait(self._begin())
            try:
                for chunk in chunks:
                    yield from self._wait(self._parse(parser, chunk))
            finally:
                self._wait(parser.close())

    def _wait(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_timeout)

    async def _parse(self, parser: AnswerParser, chunk: Chunk) -> list[Chunk]:
        """Returns what was found in the chunk's text; the last chunk has the other keys."""
        text, reason = chunk.get("text", ""), chunk.get("finish_reason")
        assert isinstance(text, str)
        ids = chunk.get("token_ids") or []
        found = await (parser.finish(reason, text, ids) if reason else parser.feed(text, ids))
        deltas = self._deltas(found)
        last: Chunk = {**chunk, "text": found.content}
        delta = dict(chunk.get("delta") or {})
        if found.reasoning:
            delta["reasoning_content"] = found.reasoning
        index = chunk.get("index", 0)
        before: list[Chunk] = []
        if deltas:
            if last["text"] or delta:
                first: Chunk = {"index": index, "text": last["text"]}
                if delta:
                    first["delta"] = delta
                before.append(first)
                last["text"], delta = "", {}
            before += [{"index": index, "delta": {"tool_calls": [piece]}} for piece in deltas[:-1]]
            delta["tool_calls"] = deltas[-1:]
        if delta:
            last["delta"] = delta
        else:
            last.pop("delta", None)
        if reason == "stop" and self._has_calls:
            last["finish_reason"] = "tool_calls"
        return [*before, last]

    def _deltas(self, found: Found) -> list[dict[str, Any]]:
        """Returns the parts of tool calls, each call first with its name and then with its arguments."""
        deltas: list[dict[str, Any]] = []
        for piece in found.calls:
            if piece.get("index") and not self._may_call_several:
                continue
            self._has_calls = True
            function = piece.get("function") or {}
            arguments = function.get("arguments")
            if function.get("name") and arguments:
                deltas.append({**piece, "function": {**function, "arguments": ""}})
                deltas.append({"index": piece.get("index", 0), "function": {"arguments": arguments}})
            else:
                deltas.append(dict(piece))
        return deltas
