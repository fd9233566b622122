# SPDX-License-Identifier: Apache-2.0
"""Where an engine that owns its step loop puts what it makes."""

from collections.abc import Callable
from contextvars import Context
from typing import Any, Protocol

from dynamo_llm import _core
from dynamo_llm.runtime.engine import EngineRequest, Usage
from dynamo_llm.runtime.failure import describe
from dynamo_llm.runtime.trace import Span

push_step = _core.push_step
"""``push_step(sinks, token_ids, texts=None) -> list[int]``: push a token to each of many sinks, in one call.

:param sinks: the requests that the step made a token for; each once or more often, in order.
:param token_ids: the id of each sink's token; None if the engine has text only.
:param texts: the text of each sink's token: str, bytes (which may split a code point), or None; None if
    there is no text.
:returns: numbers of the sinks, counted from 0, whose streams are full and took nothing: push again what they
    were to get after the engine's ``space(sink)``, or in a later step. A request that has ended, or whose
    caller has gone, takes everything and drops it.
:raises TypeError, ValueError: something is of a wrong type, or the counts differ. Nothing was pushed then.
"""


class _Steps(Protocol):
    def add(self, request: EngineRequest, sink: "Sink") -> None: ...

    def cancel(self, sink: "Sink") -> None: ...


class Sink(_core.Sink):
    """One request of an engine of steps, until :meth:`finish` or :meth:`fail`. From any thread, but one at a
    time. Engines keep it in place of the request; they do not make it.

    :param stream: the core's.
    :param request_id: unique in this process.
    :param engine: is told of what happens.
    :param span: the request's, or None.
    :param forget: called at the end, from the engine's thread.
    """

    def __init__(
        self,
        stream: int,
        request_id: str,
        engine: _Steps,
        span: Span | None,
        forget: Callable[[], Any],
    ) -> None:
        super().__init__(stream, None if span is None else span.see)
        self.id = request_id
        """Unique in this process; also in logs and errors."""
        self._stream = stream
        self._engine = engine
        self._span = span
        self._forget = forget

    def start(self, body: dict[str, Any], context: Context) -> None:
        """Hand the request to the engine. On the loop.

        :param context: in which the engine is called.
        """
        request = EngineRequest(self.id, body, lambda: self.is_cancelled, self._remaining)
        try:
            context.run(self._engine.add, request, self)
        except BaseException as error:  # SystemExit, too: the host's process is not the engine's
            self.fail(error)

    def finish(self, reason: str | None = None, usage: Usage | None = None) -> None:
        """The answer is whole. Once; what comes later is ignored.

        :param reason: why it ends, if no chunk said so: ``stop``, ``length``, ...; None is ``stop``.
        :param usage: token counts; None if they are not known.
        :raises TypeError: ``usage`` is no dictionary of counts. The answer has not ended then.
        """
        if self.has_ended:
            return
        if usage is not None and not isinstance(usage, dict):
            raise TypeError(f'"usage" must be dict, not {type(usage).__qualname__}')
        if self._span is not None:
            if reason is not None:
                self._span.see({"finish_reason": reason})
            self._span.finish(usage)
        self.finish_stream(reason, usage)
        self._forget()

    def fail(self, error: BaseException) -> None:
        """The answer ends with an error; the caller gets its status as if a generator had raised it. Once;
        what comes later is ignored.
        """
        if self.has_ended:
            return
        if self._span is not None:
            self._span.fail(error)
        self.fail_stream(*describe(error))
        self._forget()

    def cancel(self) -> None:
        """The caller has gone. On the loop."""
        if self.has_ended:
            return
        try:
            self._engine.cancel(self)
        except BaseException as error:
            self.fail(error)

    def space(self) -> None:
        """The stream, which was full, has room again. On the loop."""
        if not self.has_ended and (tell := getattr(self._engine, "space", None)):
            try:
                tell(self)
            except BaseException as error:
                self.fail(error)

    async def ended(self) -> None:
        """Do not wait: an engine of steps may be in the middle of one."""

    def _remaining(self) -> float | None:
        return None if self.has_ended else _core.stream_remaining(self._stream)
