# SPDX-License-Identifier: Apache-2.0
"""The task that runs one request of an engine with generators."""

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, cast

from dynamo_llm import _core
from dynamo_llm.errors import EngineFailedError
from dynamo_llm.runtime.engine import Chunk, DataRequest, EngineRequest, Usage
from dynamo_llm.runtime.error_report import describe
from dynamo_llm.runtime.pusher import Answer, OnPushed, Pusher, TokenAnswer, require_generator
from dynamo_llm.runtime.sink import Sink
from dynamo_llm.runtime.span import Span
from dynamo_llm.runtime.threads import DaemonThreads

#: Result of :meth:`RequestTask.open`: chunks that are still to be read, or None if all were pushed; a
#: function to call with each of them, or None; the token counts, if all were pushed. None: the request was
#: passed on to an engine that now owns the stream.
Opened = tuple[AsyncIterator[Chunk] | None, OnPushed | None, Usage | None] | None


class RequestTask(Pusher):
    """One request. Its methods run on the event loop. Its task runs :func:`dynamo_llm._core.drain`, which
    calls :meth:`open`, reads the chunks, and calls :meth:`wait_until_writable` and :meth:`end`.

    :param text: the OpenAI body as JSON; or a payload, bytes or JSON.
    :param runs: all running requests by stream; the request removes itself at its end.
    :param owner: the engine's class, for errors.
    """

    __slots__ = ("_answers", "_owner", "_request_id", "_runs", "_span", "_text", "task")

    task: asyncio.Task[None]

    def __init__(
        self,
        stream: int,
        request_id: str,
        text: str | bytes,
        threads: DaemonThreads,
        runs: dict[int, Any],
        owner: type,
    ) -> None:
        super().__init__(stream, threads)
        self._owner = owner
        self._request_id = request_id
        self._text = text
        self._runs = runs
        self._span: Span | None = None
        self._answers: Sequence[TokenAnswer] = ()

    def start(self, opening: Any, may_gather: bool) -> None:
        """Starts the task.

        :param opening: the coroutine of :meth:`open`, :meth:`open_data`, or :meth:`open_call`.
        :param may_gather: whether chunks that come without a pause may be pushed together.
        """
        self._runs[self._stream] = self
        self.task = asyncio.get_running_loop().create_task(
            _core.drain(self._stream, opening, self, may_gather)
        )

    def cancel(self) -> None:
        """Cancels the task: the rest of the answer is unwanted."""
        self.task.cancel()

    async def ended(self) -> None:
        """Waits until the engine has finished with the request."""
        await asyncio.wait([self.task])

    async def open(
        self,
        ask: Callable[[EngineRequest], Awaitable[Sequence[Answer]]],
        trace: Callable[[dict[str, Any], str], Span | None],
    ) -> Opened:
        """Passes the request to the engine.

        :param ask: returns the choices of the answer.
        :param trace: starts a span for a body with a trace context.
        """
        text, self._text = self._text, ""
        body = json.loads(text)
        on_pushed: OnPushed | None = None
        if "traceparent" in body:
            self._span = trace(body, self._request_id)
            if self._span is not None:
                self._span.enter()
                on_pushed = self._span.record
        request = EngineRequest(self._request_id, body, self.is_cancelled, self.remaining, self.set_queued)
        answers = await ask(request)
        first = answers[0]
        if isinstance(first, TokenAnswer):
            if self._span is None and self._pass_on(first):
                return None
            self._answers = cast(Sequence[TokenAnswer], answers)
            on_pushed = None  # the span gets from the choices what the stream makes of the chunks
        if len(answers) == 1:
            chunks, index = self.opened(first)
            if hasattr(chunks, "__aiter__"):
                return cast(AsyncIterator[Chunk], chunks), on_pushed, None
            return None, None, await self.push_opened([(chunks, index)], on_pushed)
        prompts = len(request.prompts) if "prompt" in body else 1
        return None, None, await self.push(answers, on_pushed, prompts)

    def _pass_on(self, answer: TokenAnswer) -> bool:
        """Lets the engine push into the stream itself, if it can. Returns whether it now owns the stream."""
        if answer.forward is not None:
            answer.choice.attach(self._stream, answer.prompt_tokens)
            answer.forward(self._stream)
            self._runs.pop(self._stream, None)
            return True
        if answer.steps is not None:
            answer.choice.attach(self._stream, answer.prompt_tokens)
            on_end = functools.partial(self._runs.pop, self._stream, None)
            sink = Sink(self._stream, answer.request.id, answer.steps, None, on_end)
            self._runs[self._stream] = sink
            sink.start_tokens(answer.request)
            return True
        return False

    async def open_data(self, generate: Callable[[DataRequest], Any]) -> Opened:
        """Passes a raw request to the engine's ``generate()``, and pushes all of its answer."""
        given = self._text
        content = given if isinstance(given, bytes) else json.loads(given)
        request = DataRequest(self._request_id, content, self.is_cancelled, self.remaining)
        items = require_generator(generate(request), self._owner)
        await self.push([_chunks_async(items) if hasattr(items, "__aiter__") else _chunks(items)])
        return None, None, None

    async def open_call(self, run: Callable[[str], Awaitable[str]]) -> Opened:
        """Runs a control call, and pushes its result.

        :param run: takes the command, and returns the result as JSON.
        """
        self._push_chunk({"data": await run(str(self._text))})
        return None, None, None

    def end(self, usage: Any, error: BaseException | None) -> tuple[int, str, str] | None:
        """Ends the request: the answer is complete, or something failed. Any exception, also SystemExit,
        ends the request only, never the event loop.

        :returns: status, message, and details of the failure, for the caller; None without one.
        """
        self._runs.pop(self._stream, None)
        try:
            if self._span is not None and error is None:
                self._span.finish(self._counted(usage))
            elif self._span is not None and error is not None:
                self._span.fail(error)
        except BaseException as failure:
            error = failure
        return None if error is None else describe(error)

    def _counted(self, usage: Usage | None) -> Usage | None:
        """Returns the token counts for the span, and records why the choices ended."""
        if self._span is None or not self._answers:
            return usage
        for answer in self._answers:
            self._span.record(
                {"index": answer.choice.index, "finish_reason": answer.choice.finish_reason or "stop"}
            )
        return {
            **(usage or {}),
            "prompt_tokens": sum(answer.prompt_tokens for answer in self._answers),
            "completion_tokens": sum(answer.choice.tokens for answer in self._answers),
        }


def _chunk(item: Any) -> Chunk:
    """Wraps an item of a raw engine as a chunk."""
    if isinstance(item, (bytes, bytearray, memoryview)):
        return {"data": bytes(item)}
    try:
        return {"data": json.dumps(item, allow_nan=False)}
    except (TypeError, ValueError) as error:
        raise EngineFailedError(
            f"the engine yielded an item that is neither bytes nor a JSON value: {error}"
        ) from error


async def _chunks_async(items: AsyncIterator[Any]) -> AsyncIterator[Chunk]:
    try:
        async for item in items:
            yield _chunk(item)
    finally:
        if close := getattr(items, "aclose", None):
            await close()


def _chunks(items: Iterator[Any]) -> Iterator[Chunk]:
    try:
        for item in items:
            yield _chunk(item)
    finally:
        if close := getattr(items, "close", None):
            close()
