# SPDX-License-Identifier: Apache-2.0
"""Step-level engines, and the sinks that they push tokens into."""

import asyncio
import contextlib
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, Literal, Protocol

from dynamo_llm import _core
from dynamo_llm.runtime.engine import EngineRequest, StartableEngine, TokenRequest, Usage
from dynamo_llm.runtime.error_report import describe
from dynamo_llm.runtime.span import Span

push_many = _core.push_many
"""``push_many(sinks, token_ids, texts=None) -> list[int]``: push a token to each of many sinks, in one call.

:param sinks: the requests that the step made a token for; each once or more often, in order.
:param token_ids: the id of each sink's token; None if the engine has text only.
:param texts: the text of each sink's token: str, bytes (which may split a code point), or None; None if
    there is no text.
:returns: numbers of the sinks, counted from 0, whose streams are full and took nothing: push again what they
    were to get after the engine's ``on_writable(sink)``, or in a later step. A request that has ended, or was
    cancelled, takes everything and drops it.
:raises TypeError, ValueError: something is of a wrong type, or the counts differ. Nothing was pushed then.
"""


class Sink(_core.Sink):
    """One request of a step-level engine, until :meth:`finish` or :meth:`fail`. Any thread may use it, but
    only one at a time. The library creates it; the engine keeps it in place of the request.

    :param stream: number of the request's stream in the library.
    :param engine: gets the request, and is notified when it is cancelled and when its stream is writable.
    :param on_end: called once, at the end of the request, in the engine's thread.
    """

    def __init__(
        self, stream: int, request_id: str, engine: "StepEngine", span: Span | None, on_end: Callable[[], Any]
    ) -> None:
        super().__init__(stream, None if span is None else span.record)
        self.id = request_id
        """Id of the request, unique in this process; also in logs and errors."""
        self._stream = stream
        self._engine = engine
        self._span = span
        self._on_end = on_end
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_told = False

    def start(self, body: dict[str, Any], context: Context) -> None:
        """Passes the request to the engine. On the event loop.

        :param context: the context variables that the engine is called with.
        """
        self._loop = asyncio.get_running_loop()
        request = EngineRequest(self.id, body, lambda: self.is_cancelled, self._remaining, self._set_queued)
        try:
            context.run(self._engine.add, request, self)
        except BaseException as error:  # also SystemExit: an engine must not end the process
            self.fail(error)

    def start_tokens(self, request: TokenRequest) -> None:
        """Passes the request to a token-level engine. On the event loop."""
        self._loop = asyncio.get_running_loop()
        try:
            copy_context().run(self._engine.add, request, self)
        except BaseException as error:
            self.fail(error)

    def finish(self, reason: str | None = None, usage: Usage | None = None) -> None:
        """Ends the answer: it is complete. Later calls are ignored.

        :param reason: finish reason, if no chunk had one: ``stop``, ``length``, ...; None means ``stop``.
        :param usage: token counts; None if they are unknown.
        :raises TypeError: ``usage`` is not a dictionary. The answer has not ended then.
        """
        if self.has_ended:
            return
        if usage is not None and not isinstance(usage, dict):
            raise TypeError(f'"usage" must be dict, not {type(usage).__qualname__}')
        if self._span is not None:
            if reason is not None:
                self._span.record({"finish_reason": reason})
            self._span.finish(usage)
        self.finish_stream(reason, usage)
        self._on_end()

    def fail(self, error: BaseException) -> None:
        """Ends the answer with an error, as if a generator had raised it. Later calls are ignored."""
        if self.has_ended:
            return
        if self._span is not None:
            self._span.fail(error)
        self.fail_stream(*describe(error))
        self._on_end()

    def cancel(self) -> None:
        """Tells the engine, once, that the request was cancelled, or is complete. On the event loop."""
        if self.has_ended or self._is_told:
            return
        self._is_told = True
        try:
            self._engine.cancel(self)
        except BaseException as error:
            self.fail(error)

    def on_refused(self) -> None:
        """The stream has taken a token, and needs no more. Any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the event loop is closed
                self._loop.call_soon_threadsafe(self.cancel)

    def on_writable(self) -> None:
        """Tells the engine that the stream, which was full, is writable again. On the event loop."""
        if not self.has_ended and (notify := getattr(self._engine, "on_writable", None)):
            try:
                notify(self)
            except BaseException as error:
                self.fail(error)

    async def ended(self) -> None:
        """Does not wait: a step-level engine may be in the middle of a step."""

    def _set_queued(self, is_queued: bool) -> None:
        if not self.has_ended:
            _core.stream_set_queued(self._stream, is_queued)

    def _remaining(self) -> float | None:
        return None if self.has_ended else _core.stream_remaining(self._stream)


class StepEngine(StartableEngine, Protocol):
    """A step-level engine: a text engine that owns its step loop. Each step produces a token for each of many
    requests, and :data:`push_many` passes all of them on in one call, without a
    generator, a task, or an iteration of the event loop per token. It has ``add()`` and ``cancel()`` in
    place of ``generate()``. Its ``start()`` also starts the step loop, a thread or a task, and its ``stop()``
    ends it. Otherwise as :class:`~dynamo_llm.runtime.engine.Engine`.
    """

    kind: Literal["steps"]

    def add(self, request: Any, sink: Sink) -> None:
        """Accepts a request; its answer goes into ``sink``. Called on the event loop; must not block. An
        exception ends the request.
        """

    def cancel(self, sink: Sink) -> None:
        """Cancels a request: the caller cancelled it, or its deadline passed; or the answer of a token-level
        engine is complete, for example by a stop string. Call ``sink.finish()`` once the request has left the
        step loop. Called at most once, on the event loop; must not block.
        """

    # Optional: def on_writable(self, sink: Sink) -> None, called like cancel(): a full stream is writable.
