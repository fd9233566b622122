# SPDX-License-Identifier: Apache-2.0
"""Pushes the chunks of an engine's answer into the request's stream."""

import asyncio
import contextvars
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from dynamo_llm import _core
from dynamo_llm.runtime.engine import Chunk, TokenChunk, TokenRequest, Usage
from dynamo_llm.runtime.threads import DaemonThreads

_OK = _core.STATUSES["DYNAMO_OK"]
_PENDING = _core.STATUSES["DYNAMO_PENDING"]

Chunks = AsyncIterator[Chunk] | Iterator[Chunk]
OnPushed = Callable[[Chunk], None]


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """One choice of a token-level engine, whose tokens the request's stream converts to text."""

    choice: _core.TokenChoice
    prompt_tokens: int
    """Number of tokens of the prompt; 0 if it counts for another choice."""
    request: TokenRequest
    generate: Callable[[], AsyncIterator[TokenChunk] | Iterator[TokenChunk]]
    """Starts the engine's generator."""
    steps: Any
    """The engine, if it has ``add()`` as a step-level engine, and the answer has one choice."""
    forward: Callable[[int], None] | None
    """Passes the request with this stream on to an engine in C, which then owns it; None if that is not
    possible."""


Answer = Chunks | TokenAnswer


class Pusher:
    """Pushes the answer to one request. Unless stated otherwise, its methods run on the event loop.

    :param stream: number of the request's stream in the library.
    :param threads: runs plain generators.
    """

    __slots__ = ("_has_begun", "_has_failed", "_on_pushed", "_stream", "_threads", "_waiters")

    def __init__(self, stream: int, threads: DaemonThreads) -> None:
        self._stream = stream
        self._threads = threads
        self._on_pushed: OnPushed | None = None
        self._waiters: list[asyncio.Future[None]] | None = None  # created lazily: most streams never fill up
        self._has_begun = False
        self._has_failed = False

    def is_cancelled(self) -> bool:
        """Whether the rest of the answer is unwanted: it was cancelled, or a choice failed. Any thread."""
        return self._has_failed or _core.stream_is_cancelled(self._stream)

    def remaining(self) -> float | None:
        """Seconds until the request's deadline; None without one. Any thread."""
        return _core.stream_remaining(self._stream)

    def set_queued(self, is_queued: bool) -> None:
        """Reports whether the request waits in a queue of its engine. Any thread."""
        _core.stream_set_queued(self._stream, is_queued)

    def on_writable(self) -> None:
        """Resumes pushing: the stream, which was full, is writable again."""
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    async def push(
        self, answers: Sequence[Answer], on_pushed: OnPushed | None = None, prompts: int = 1
    ) -> Usage | None:
        """Pushes the choices of an answer concurrently. If one fails, the others are cancelled.

        :param on_pushed: called with each chunk after it was pushed, in any thread.
        :param prompts: number of prompts, which have as many choices each.
        :returns: token counts of the whole request; None if the engine does not report them.
        """
        return await self.push_opened([self.opened(answer) for answer in answers], on_pushed, prompts)

    async def push_opened(
        self, opened: Sequence[tuple[Chunks, int | None]], on_pushed: OnPushed | None = None, prompts: int = 1
    ) -> Usage | None:
        """Does the same for the results of :meth:`opened`."""
        self._on_pushed = on_pushed
        if len(opened) == 1:
            return await self._push_one(*opened[0])
        tasks = [asyncio.ensure_future(self._push_one(*one)) for one in opened]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            self._has_failed = not all(task.done() for task in tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0)  # the event loop keeps the exceptions alive until its next iteration
        ends = (task.exception() for task in tasks if not task.cancelled())
        failures = [failure for failure in ends if failure is not None]
        if failures:
            tasks.clear()  # otherwise this frame, in the exception's traceback, would form a reference cycle
            raise failures.pop(0)
        return _sum([task.result() for task in tasks], prompts)

    def opened(self, answer: Answer) -> tuple[Chunks, int | None]:
        """Returns the chunks to push. For tokens that the stream converts, also the index of their choice."""
        if not isinstance(answer, TokenAnswer):
            return answer, None
        answer.choice.attach(self._stream, answer.prompt_tokens)
        return cast(Chunks, answer.generate()), answer.choice.index

    async def _push_one(self, chunks: Chunks, index: int | None) -> Usage | None:
        if hasattr(chunks, "__aiter__"):
            return await self._push_async(cast(AsyncIterator[Chunk], chunks), index)
        return await self._push_in_thread(chunks, index)

    def _push_chunk(self, chunk: Chunk, index: int | None = None) -> int:
        return _core.stream_push(self._stream, cast(dict[str, Any], chunk), index)

    async def _push_async(self, answer: AsyncIterator[Chunk], index: int | None) -> Usage | None:
        usage: Usage | None = None
        try:
            async for chunk in answer:
                status = await self._push_writable(chunk, index)
                usage = chunk.get("usage", usage)
                if status != _OK:
                    break
                if self._on_pushed is not None:
                    self._on_pushed(chunk)
            else:
                if index is not None:
                    await self._push_writable(_end, index)
        finally:
            if close := getattr(answer, "aclose", None):
                await close()
        return usage

    async def _push_writable(self, chunk: Chunk, index: int | None) -> int:
        while (status := self._push_chunk(chunk, index)) == _PENDING:
            await self.wait_until_writable()
        return status

    def wait_until_writable(self) -> "asyncio.Future[None]":
        """Returns a future that is done when the stream, which is full, is writable again."""
        waiter = asyncio.get_running_loop().create_future()
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(waiter)
        return waiter

    async def _push_in_thread(self, answer: Iterator[Chunk], index: int | None) -> Usage | None:
        # Exceptions are not passed through the future: the thread refers to it for a while, and the exception
        # would keep everything of the engine's frames alive until then.
        failures: list[BaseException] = []

        def work() -> Usage | None:
            usage: Usage | None = None
            if not self._has_begun:
                self._has_begun = True
                self.set_queued(False)
            try:
                for chunk in itertools.chain(answer, () if index is None else (_end,)):
                    while (status := self._push_chunk(chunk, index)) == _PENDING:
                        _core.stream_wait(self._stream, 1000)
                    usage = chunk.get("usage", usage)
                    if status != _OK or self._has_failed:
                        break
                    if self._on_pushed is not None:
                        self._on_pushed(chunk)
            except BaseException as error:
                failures.append(error)
            try:
                if close := getattr(answer, "close", None):
                    close()
            except BaseException as error:
                failures[:] = [error]
            return usage

        if not self._has_begun:
            self.set_queued(True)
        job = self._threads.submit(contextvars.copy_context().run, work)
        future = asyncio.wrap_future(job)
        # A thread cannot be cancelled; it notices when it pushes. Until then the engine is still busy with
        # the request.
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                if job.cancel():
                    raise
        if failures:
            raise failures.pop()
        result: Usage | None = future.result()
        return result


#: Ends a choice of a token-level engine that gave no finish reason; otherwise it is ignored.
_end: Chunk = {"finish_reason": "stop"}


def require_generator(returned: Any, owner: type) -> Any:
    """Returns what ``generate()`` of an engine returned, if it can be iterated.

    :param owner: the engine's class, for the error.
    :raises TypeError: it is neither an asynchronous nor a plain iterator.
    """
    if hasattr(returned, "__aiter__") or hasattr(returned, "__iter__"):
        return returned
    raise TypeError(
        f"generate() of {owner.__qualname__} must return a generator, not {type(returned).__qualname__}"
    )


def _sum(choices: list[Usage | None], prompts: int) -> Usage | None:
    """Token counts of a request with several choices; each prompt counts once."""
    if not any(usage is not None for usage in choices):
        return None
    total: Usage = {"prompt_tokens": 0, "completion_tokens": 0, "cached_tokens": 0}
    count = len(choices) // prompts
    for start in range(0, len(choices), count):
        known = [usage for usage in choices[start : start + count] if usage is not None]
        total["prompt_tokens"] += max((usage.get("prompt_tokens", 0) for usage in known), default=0)
        total["completion_tokens"] += sum(usage.get("completion_tokens", 0) for usage in known)
        total["cached_tokens"] += max((usage.get("cached_tokens", 0) for usage in known), default=0)
    return total
