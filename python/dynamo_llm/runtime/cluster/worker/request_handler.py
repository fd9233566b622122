# SPDX-License-Identifier: Apache-2.0
"""Answers the requests that Dynamo passes to a worker, and tracks those in flight."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

from dynamo_llm.errors import ClosedError, DynamoError
from dynamo_llm.runtime.cluster.request_metadata import remaining_of, trace_of
from dynamo_llm.runtime.cluster.worker.failure import failure_of
from dynamo_llm.runtime.cluster.worker.served_engine import ServedEngine

_log = logging.getLogger("dynamo_llm.worker")

#: Seconds for which a worker still takes requests after it has left: their senders had not been notified.
_grace = 1.0
#: Seconds that requests get to end after they were cancelled.
_cancel_timeout = 5.0


class RequestHandler:
    """The handler of an endpoint."""

    def __init__(self, engine: ServedEngine, endpoint: str) -> None:
        self._engine = engine
        self._endpoint = endpoint
        self.in_flight = 0
        """Number of requests in flight."""
        self.served = 0
        """Number of requests that were answered completely."""
        self.failed = 0
        """Number of other finished requests."""
        self.problem: str | None = None
        """Why the engine does not work; None while it works."""
        self._requests: set[Any] = set()
        self._cancelled: set[Any] = set()
        self._last_progress = time.monotonic()
        self._left_at: float | None = None
        self._is_closed = False
        self._is_idle = asyncio.Event()

    # ------------------------------------------------------------------------------------ requests

    async def handle(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Answers a request; Dynamo calls this for each."""
        try:
            has_left = self._left_at is not None and time.monotonic() - self._left_at > _grace
            if self._is_closed or has_left:
                raise ClosedError(f"the worker of {self._endpoint} is leaving the cluster")
            _log.debug("request %s", context.id())
            async for item in self._answer(request, context):
                yield item
        except DynamoError as error:
            _log.debug("request %s failed: %s", context.id(), error)
            yield failure_of(error)

    async def _answer(self, request: Any, context: Any) -> AsyncIterator[Any]:
        sent: list[Any] = []
        timeout = remaining_of(context)
        trace = trace_of(context)
        if self.in_flight == 0:
            self._last_progress = time.monotonic()
        self.in_flight += 1
        self._is_idle.clear()
        is_complete = False

        def send(body: Any) -> Any:
            made = self._engine.send(body, timeout)
            sent.append(made)
            self._requests.add(made)
            return made

        cancelled = asyncio.ensure_future(context.async_killed_or_stopped())
        cancelled.add_done_callback(lambda future: _cancel(sent, future))
        try:
            async for item in self._engine.answer(request, trace, send):
                self._last_progress = time.monotonic()
                yield item
            is_complete = True
        except DynamoError as error:
            if any(one in self._cancelled for one in sent):
                raise ClosedError("the worker stopped before the answer was complete") from error
            if context.is_stopped():
                return  # nobody reads the error
            if error.fatal:
                self.problem = str(error)
            raise
        finally:
            cancelled.cancel()
            for one in sent:
                one.cancel()
                self._requests.discard(one)
            self.in_flight -= 1
            self.served += is_complete
            self.failed += not is_complete
            self._last_progress = time.monotonic()
            if self.in_flight == 0:
                self._is_idle.set()

    # ------------------------------------------------------------------------------------ shutdown

    def begin_leaving(self) -> None:
        """Rejects requests that come later than a second from now."""
        self._left_at = time.monotonic()

    def close(self) -> None:
        """Rejects all further requests."""
        self._is_closed = True

    def cancel_all(self) -> None:
        """Rejects all further requests, and cancels those in flight."""
        self.close()
        for request in self._requests:
            self._cancelled.add(request)
            request.cancel()
        # A request whose client does not read would not end.
        asyncio.get_running_loop().call_later(_cancel_timeout, self._is_idle.set)

    async def wait_until_idle(self) -> int:
        """Waits until no request is in flight. Returns how many were cancelled."""
        if self.in_flight == 0:
            self._is_idle.set()
        await self._is_idle.wait()
        return len(self._cancelled)

    # -------------------------------------------------------------------------------------- health

    def is_stalled(self, seconds: float) -> bool:
        """Whether requests are in flight and none has progressed for so long."""
        return self.in_flight > 0 and time.monotonic() - self._last_progress > seconds

    async def wait_for_recovery(self, seconds: float) -> None:
        """Waits until an engine that was silent for so long answers a request in flight or a probe."""
        since = self._last_progress
        while self._last_progress == since or self.is_stalled(seconds):
            if await self._probe(seconds):
                return
            await asyncio.sleep(min(1.0, seconds / 4))

    async def _probe(self, seconds: float) -> bool:
        """Sends a request to test whether the engine answers."""
        payload = self._engine.probe_payload()
        if payload is None:
            return self.in_flight == 0
        sent: list[Any] = []

        def send(body: Any) -> Any:
            sent.append(self._engine.send(body, seconds))
            return sent[-1]

        try:
            async for _ in self._engine.answer(payload, {}, send):
                pass
        except DynamoError as error:
            _log.debug("the probe failed: %s", error)
            return False
        finally:
            for one in sent:
                one.cancel()
        return True


def _cancel(sent: list[Any], future: "asyncio.Future[Any]") -> None:
    if not future.cancelled():
        future.exception()
        for one in sent:
            one.cancel()
