# SPDX-License-Identifier: Apache-2.0
"""One request on its way through an instance."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from dynamo_llm import _core
from dynamo_llm.runtime import data
from dynamo_llm.runtime.engine import Chunk, DataRequest, EngineRequest, Usage
from dynamo_llm.runtime.failure import describe
from dynamo_llm.runtime.pusher import Answer, Pusher, See
from dynamo_llm.runtime.trace import Span

#: What :meth:`Run.open` gives: chunks that are still to be read, or None; what is to be called with each;
#: the counts, if all was pushed.
Opened = tuple[AsyncIterator[Chunk] | None, See | None, Usage | None]


class Run(Pusher):
    """One request. The loop calls its methods; its task runs :func:`dynamo_llm._core.drain`, which calls
    :meth:`open`, reads the chunks, and calls :meth:`wait_for_space` and :meth:`end`.

    :param stream: the core's.
    :param request_id: unique in this process.
    :param text: OpenAI's body as JSON; or data: bytes, or JSON.
    :param threads: where plain generators run.
    :param runs: by stream; the run takes itself out at its end.
    """

    __slots__ = ("_request_id", "_runs", "_span", "_text", "task")

    task: asyncio.Task[None]

    def __init__(
        self,
        stream: int,
        request_id: str,
        text: str | bytes,
        threads: ThreadPoolExecutor,
        runs: dict[int, Any],
    ) -> None:
        super().__init__(stream, threads)
        self._request_id = request_id
        self._text = text
        self._runs = runs
        self._span: Span | None = None

    def start(self, opening: Any, may_gather: bool) -> None:
        """Begin.

        :param opening: the coroutine of :meth:`open` or :meth:`open_data`.
        :param may_gather: chunks that come without a pause may be pushed together.
        """
        self._runs[self._stream] = self
        self.task = asyncio.get_running_loop().create_task(
            _core.drain(self._stream, opening, self, may_gather)
        )

    def cancel(self) -> None:
        """The caller has gone."""
        self.task.cancel()

    async def ended(self) -> None:
        """Wait until the engine has nothing to do with it any more."""
        await asyncio.wait([self.task])

    async def open(
        self,
        ask: Callable[[EngineRequest], Awaitable[Sequence[Answer]]],
        trace: Callable[[dict[str, Any], str], Span | None],
    ) -> Opened:
        """Ask the engine.

        :param ask: gives the choices of the answer.
        :param trace: starts a span for a body that has a trace context.
        """
        text, self._text = self._text, ""
        body = json.loads(text)
        see: See | None = None
        if "traceparent" in body:
            self._span = trace(body, self._request_id)
            if self._span is not None:
                self._span.enter()
                see = self._span.see
        answers = await ask(EngineRequest(self._request_id, body, self.is_cancelled, self.remaining))
        if len(answers) == 1 and hasattr(answers[0], "__aiter__"):
            return cast(AsyncIterator[Chunk], answers[0]), see, None
        return None, None, await self.push(answers, see)

    async def open_data(self, generate: Callable[[DataRequest], Any]) -> Opened:
        """Ask an engine of data.

        :param generate: the engine's.
        """
        given = self._text
        content = given if isinstance(given, bytes) else json.loads(given)
        request = DataRequest(self._request_id, content, self.is_cancelled, self.remaining)
        await self.push([data.chunks(generate(request))])
        return None, None, None

    def end(self, usage: Any, error: BaseException | None) -> tuple[int, str, str] | None:
        """The answer is whole, or something failed. Whatever it was (SystemExit, too) is the request's
        end, and not the loop's. After a cancel nobody hears of it.

        :returns: the failure, for the caller.
        """
        self._runs.pop(self._stream, None)
        try:
            if self._span is not None and error is None:
                self._span.finish(usage)
            elif self._span is not None and error is not None:
                self._span.fail(error)
        except BaseException as failure:
            error = failure
        return None if error is None else describe(error)
