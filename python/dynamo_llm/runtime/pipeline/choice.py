# SPDX-License-Identifier: Apache-2.0
"""The choices of an answer of a token-level engine."""

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator

from dynamo_llm import _core
from dynamo_llm.runtime.engine import Chunk, TokenChunk, TokenRequest, Usage


class Choice:
    """Converts one choice, chunk by chunk, where Python needs its text; otherwise the stream of the request
    does the same without Python.

    :param core: converts tokens to text.
    """

    def __init__(self, request: TokenRequest, core: _core.TokenChoice) -> None:
        self.request = request
        self.core = core
        self._usage: Usage = {}

    def feed(self, chunk: TokenChunk) -> Chunk:
        """Converts tokens from the engine to a chunk.

        :raises ValueError: the engine yielded fewer log-probs than tokens.
        """
        self._usage = chunk.get("usage") or self._usage
        return self._with_usage(self.core.feed({**chunk}))

    def finish(self) -> Chunk:
        """Returns the last chunk of a choice that the engine ended without a finish reason."""
        return self._with_usage(self.core.finish())

    def _with_usage(self, values: dict[str, object]) -> Chunk:
        chunk: Chunk = {**values}  # type: ignore[typeddict-item]
        if self.core.has_ended:
            chunk["usage"] = {
                **self._usage,
                "prompt_tokens": len(self.request.token_ids),
                "completion_tokens": self.core.tokens,
            }
        return chunk

    async def chunks_async(self, answer: AsyncIterator[TokenChunk]) -> AsyncGenerator[Chunk, None]:
        """Converts an engine's answer. Closes the engine's generator as soon as the choice ends."""
        try:
            async for chunk in answer:
                yield self.feed(chunk)
                if self.core.has_ended:
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
                if self.core.has_ended:
                    return
            yield self.finish()
        finally:
            if close := getattr(answer, "close", None):
                close()
