# SPDX-License-Identifier: Apache-2.0
"""Brings the chunks of an engine's answer into its stream."""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from dynamo_llm import _core
from dynamo_llm.runtime.engine import Chunk, Usage

_OK = _core.STATUSES["DYNAMO_OK"]
_PENDING = _core.STATUSES["DYNAMO_PENDING"]

Answer = AsyncIterator[Chunk] | Iterator[Chunk]
See = Callable[[Chunk], None]


class Pusher:
    """Pushes the answer to one request. Its methods run on the loop, unless they say otherwise.

    :param stream: the core's.
    :param threads: where plain generators run.
    """

    __slots__ = ("_has_failed", "_see", "_stream", "_threads", "_waiters")

    def __init__(self, stream: int, threads: ThreadPoolExecutor) -> None:
        self._stream = stream
        self._threads = threads
        self._see: See | None = None
        self._waiters: list[asyncio.Future[None]] | None = None  # most streams are never full
        self._has_failed = False

    def is_cancelled(self) -> bool:
        """Whether nobody wants the rest: the caller has gone, or a choice failed. From any thread."""
        return self._has_failed or _core.stream_is_cancelled(self._stream)

    def remaining(self) -> float | None:
        """Seconds until the request's deadline. From any thread."""
        return _core.stream_remaining(self._stream)

    def space(self) -> None:
        """The stream, which was full, has room again."""
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    async def push(self, answers: Sequence[Answer], see: See | None = None) -> Usage | None:
        """Push the choices of an answer, all at the same time. If one fails the others are ended, too.

        :param see: called with each chunk that was pushed, from any thread.
        :returns: the counts of the whole request, if the engine counts.
        """
        self._see = see
        if len(answers) == 1:
            return await self._push_one(answers[0])
        tasks = [asyncio.ensure_future(self._push_one(answer)) for answer in answers]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            self._has_failed = not all(task.done() for task in tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0)  # the loop holds the result, and so the exceptions, until its next turn
        ends = (task.exception() for task in tasks if not task.cancelled())
        failures = [failure for failure in ends if failure is not None]
        if failures:
            tasks.clear()  # an exception that its own frame holds would stay until the next collection
            raise failures.pop(0)
        return _sum([task.result() for task in tasks])

    async def _push_one(self, answer: Answer) -> Usage | None:
        if hasattr(answer, "__aiter__"):
            return await self._push_async(cast(AsyncIterator[Chunk], answer))
        return await self._push_in_thread(answer)

    def _push_chunk(self, chunk: Chunk) -> int:
        return _core.stream_push(self._stream, cast(dict[str, Any], chunk))

    async def _push_async(self, answer: AsyncIterator[Chunk]) -> Usage | None:
        usage: Usage | None = None
        try:
            async for chunk in answer:
                while (status := self._push_chunk(chunk)) == _PENDING:
                    await self.wait_for_space()
                if status != _OK:
                    break
                usage = chunk.get("usage", usage)
                if self._see is not None:
                    self._see(chunk)
        finally:
            if close := getattr(answer, "aclose", None):
                await close()
        return usage

    def wait_for_space(self) -> "asyncio.Future[None]":
        """Done when the stream, which is full, has room again."""
        waiter = asyncio.get_running_loop().create_future()
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(waiter)
        return waiter

    async def _push_in_thread(self, answer: Iterator[Chunk]) -> Usage | None:
        # Not through the future, to which the thread holds on: with an exception goes all that the engine
        # had, and the caller hears of it as soon as the loop does.
        failures: list[BaseException] = []

        def work() -> Usage | None:
            usage: Usage | None = None
            try:
                for chunk in answer:
                    while (status := self._push_chunk(chunk)) == _PENDING:
                        _core.stream_wait(self._stream, 1000)
                    if status != _OK or self._has_failed:
                        break
                    usage = chunk.get("usage", usage)
                    if self._see is not None:
                        self._see(chunk)
            except BaseException as error:
                failures.append(error)
            try:
                if close := getattr(answer, "close", None):
                    close()
            except BaseException as error:
                failures[:] = [error]
            return usage

        job = self._threads.submit(contextvars.copy_context().run, work)
        future = asyncio.wrap_future(job)
        # A cancel does not stop a thread; it sees it when it pushes. The engine's side of the request
        # lasts until then.
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                if job.cancel():
                    raise
        if failures:
            raise failures.pop()
        return future.result()


def _sum(choices: list[Usage | None]) -> Usage | None:
    """The usage of a request of several choices, whose prompt counts once."""
    known = [usage for usage in choices if usage is not None]
    if not known:
        return None
    return {
        "prompt_tokens": max(usage.get("prompt_tokens", 0) for usage in known),
        "completion_tokens": sum(usage.get("completion_tokens", 0) for usage in known),
        "cached_tokens": max(usage.get("cached_tokens", 0) for usage in known),
    }
