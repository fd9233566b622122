# SPDX-License-Identifier: Apache-2.0
"""Engines for what the drain does: chunks without a pause, pauses, awaitables of every kind, and ends. The
prompt says what a request does, and how often: "flat:1000"."""

import asyncio
import types
from collections.abc import AsyncIterator, Generator
from typing import Any, ClassVar

Chunks = AsyncIterator[dict[str, Any]]


def chunk(i: int) -> dict[str, Any]:
    """Text, id, and a code point of more than one byte now and then."""
    return {"text": f"{i} " if i % 7 else f"{i}\N{BLACK STAR}", "token_ids": [i]}


class Awaits:
    """An object with __await__()."""

    def __await__(self) -> Generator[Any, Any, None]:
        yield from asyncio.sleep(0).__await__()


@types.coroutine
def old_coroutine() -> Generator[Any, Any, None]:
    """A generator that can be awaited."""
    yield


class ByHand:
    """An asynchronous iterator that is not a generator: it has no aclose()."""

    def __init__(self, count: int) -> None:
        self.at, self.count = -1, count

    def __aiter__(self) -> "ByHand":
        return self

    async def __anext__(self) -> dict[str, Any]:
        if self.at % 5 == 0:
            await asyncio.sleep(0)
        self.at += 1
        if self.at == self.count:
            raise StopAsyncIteration
        return chunk(self.at)


class Draining:
    """What happened is in `closed`, for tests in the same process."""

    closed: ClassVar[list[str]] = []
    turns: ClassVar[list[int]] = []

    def __init__(self, config: Any) -> None:
        pass

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def generate(self, request: Any) -> Chunks:
        how, _, count = request.body["prompt"].partition(":")
        if how == "by hand":
            return ByHand(int(count))
        answer: Chunks = getattr(self, how)(int(count))
        return answer

    async def flat(self, count: int) -> Chunks:
        for i in range(count):
            yield chunk(i)

    async def suspending(self, count: int) -> Chunks:
        for i in range(count):
            await asyncio.sleep(0)
            yield chunk(i)

    async def mixed(self, count: int) -> Chunks:
        """Every kind of chunk between those that can be gathered."""
        for i in range(count):
            if i % 50 == 49:
                await Awaits()
                await old_coroutine()
            if i % 11 == 10:
                yield {"token_ids": [i], "text": f"{i} ", "logprobs": {"tokens": [i]}}
            elif i % 13 == 12:
                yield {"text": f"{i} "}
            elif i % 17 == 16:
                yield {"text": f"{i} ", "token_ids": (i,), "index": 0, "unknown": None}
            elif i % 100 == 99:
                yield {"text": "x" * 3000 + f"{i} ", "token_ids": list(range(200))}
            else:
                yield chunk(i)
        yield {"finish_reason": "length", "usage": {"prompt_tokens": 1, "completion_tokens": count}}

    async def halves(self, count: int) -> Chunks:
        """Code points in two chunks."""
        star = "\N{BLACK STAR}".encode()
        for _ in range(count):
            yield {"text": star[:1], "token_ids": [0]}
            yield {"text": star[1:], "token_ids": [1]}

    async def fails(self, count: int) -> Chunks:
        """After so many chunks; what came before is the caller's."""
        try:
            for i in range(count):
                yield chunk(i)
            raise ValueError("it is broken")
        finally:
            self.closed.append("fails")

    async def nonsense(self, count: int) -> Chunks:
        """A chunk that is none, in the midst of others."""
        try:
            for i in range(count):
                yield chunk(i)
            yield {"text": 5}
        finally:
            await asyncio.sleep(0)
            self.closed.append("nonsense")

    async def forever(self, count: int) -> Chunks:
        """Without a pause, until it is closed."""
        i = 0
        try:
            while True:
                yield chunk(i)
                i += 1
        finally:
            self.closed.append("forever")

    async def turns_of_others(self, count: int) -> Chunks:
        """Counts the turns that the loop has while another engine does not pause."""
        turns = 0
        for _ in range(count):
            await asyncio.sleep(0)
            turns += 1
        self.turns.append(turns)
        yield {"text": "done"}
