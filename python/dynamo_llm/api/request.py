# SPDX-License-Identifier: Apache-2.0
"""A request and its stream of responses."""

import asyncio
from collections.abc import Callable, Generator, Sequence
from typing import Any, Generic, TypeVar

from dynamo_llm import _core
from dynamo_llm._core import STATUSES, Response, Timing, Usage
from dynamo_llm.api.json_text import json_text
from dynamo_llm.api.numbers import FOREVER, milliseconds

Result = TypeVar("Result")
Self = TypeVar("Self", bound="Request[Any]")

_OK = STATUSES["DYNAMO_OK"]
_END = STATUSES["DYNAMO_END"]


def _wake(waiters: list[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)


class Request(Generic[Result]):
    """A request that was sent, and its stream of responses. Methods of :class:`dynamo_llm.Runtime` create it.

    To stream the answer, iterate: ``for response in request`` or ``async for response in request``. To get
    it as a whole, call ``request.result()`` or ``await request``. Either way, an error that ends the request
    is raised after all responses that came before it.

    Thread-safe: several threads and tasks may read one request; each response goes to one of them. The
    request is cancelled at the end of a ``with request:`` block and when the object is garbage-collected.
    """

    def __init__(
        self,
        body: Any,
        result_of: Callable[[Sequence[Response]], Result],
        timeout: float | None = None,
        first_token_timeout: float | None = None,
    ) -> None:
        self._core = self._make(body)
        self._result_of = result_of
        self._body = body
        self._whole: Result | None = None
        first = milliseconds(first_token_timeout, "first_token_timeout", is_deadline=True)
        total = milliseconds(timeout, "timeout", is_deadline=True)
        if (first, total) != (FOREVER, FOREVER):
            self._core.set_deadlines(first, total)
        self._waiters: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}

    @staticmethod
    def _make(body: Any) -> _core.Request:
        return _core.Request(json_text(body))

    @property
    def body(self) -> Any:
        """The OpenAI body, or the payload of a raw request, as it was passed in."""
        return self._body

    @property
    def id(self) -> str:
        """``req-`` and 16 hexadecimal digits, unique in this process. Logs and errors carry it."""
        return self._core.id

    @property
    def status(self) -> int:
        """2 (``DYNAMO_PENDING``) until the request ends, then 1 (``DYNAMO_END``) or the error's status.

        It does not depend on how much of the answer was received.
        """
        return self._core.status

    @property
    def timing(self) -> Timing:
        """Timestamps of the request so far, in seconds since it was sent; None for what has not happened."""
        return self._core.timing

    @property
    def usage(self) -> Usage:
        """Token counts of the request so far, also after it was cancelled, timed out, or failed.

        At the end of an answer they are those that the engine reported. Until then, and if the answer does
        not come to its end, ``completion_tokens`` counts what the engine pushed before the request ended, and
        ``prompt_tokens`` and ``cached_tokens`` are 0, which means that they are not known.
        """
        return self._core.usage

    def receive(self, timeout: float | None = None) -> Response | None:
        """Waits for more of the answer and returns everything that has come since the last call.

        Blocks, without holding the GIL. In the main thread Ctrl-C cancels the request.

        :param timeout: seconds to wait at most; None for no limit, 0 to return only what has come already.
        :returns: the response; None after the end, however often it is called.
        :raises TimeoutError: nothing came within the timeout. The request continues.
        :raises DynamoError: the error that ended the request.
        """
        wait = milliseconds(timeout, "timeout")
        try:
            status, response = self._core.receive(wait)
        except KeyboardInterrupt:
            self.cancel()
            raise
        if status not in (_OK, _END):
            raise TimeoutError(f"no response came within {timeout} seconds")
        return response

    def __iter__(self: Self) -> Self:
        return self

    def __next__(self) -> Response:
        response = self.receive()
        if response is None:
            raise StopIteration
        return response

    def __aiter__(self: Self) -> Self:
        return self

    async def __anext__(self) -> Response:
        while True:
            status, response = self._core.receive(0)
            if response is not None:
                return response
            if status == _END:
                raise StopAsyncIteration
            await self._readable()

    async def _readable(self) -> None:
        """Waits, on the caller's event loop, until there is something to receive."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        # An event loop takes one callback per descriptor, but several tasks may wait.
        waiters = self._waiters.setdefault(loop, [])
        if not waiters:
            loop.add_reader(self.fileno(), _wake, waiters)
        waiters.append(waiter)
        try:
            await waiter
        finally:
            waiters.remove(waiter)
            if not waiters:
                loop.remove_reader(self.fileno())
                del self._waiters[loop]

    def result(self) -> Result:
        """Waits for the end and returns the whole answer, or what has not been received yet. Blocks without
        holding the GIL. Later calls return the same object.

        :raises DynamoError: the error that ended the request.
        """
        if self._whole is None:
            self._whole = self._result_of(list(self))
        return self._whole

    async def _result(self) -> Result:
        if self._whole is None:
            try:
                self._whole = self._result_of([response async for response in self])
            except asyncio.CancelledError:
                self.cancel()  # the responses read so far are lost: the request is of no use any more
                raise
        return self._whole

    def __await__(self) -> Generator[Any, None, Result]:
        """``await request`` returns :meth:`result` without blocking the event loop. Cancelling the awaiting
        task cancels the request.
        """
        return self._result().__await__()

    def cancel(self) -> None:
        """Cancels the request. Thread-safe; does not block; further calls do nothing.

        Readers get the responses that came before, then :class:`dynamo_llm.CancelledError`.
        """
        self._core.cancel()

    def fileno(self) -> int:
        """Returns a descriptor that is readable while there is something to receive, for ``select`` and event
        loops. The request owns it: only wait on it; do not read or close it.
        """
        return self._core.fileno()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def __repr__(self) -> str:
        names = {number: name.removeprefix("DYNAMO_") for name, number in STATUSES.items()}
        return f"<Request {self.id} {names.get(self.status, self.status)}>"


class DataRequest(Request[list[Any]]):
    """A raw request: its body is a payload, bytes or a JSON value, in place of an OpenAI body. Its responses
    have ``items``, and its result is the list of all items.
    """

    @staticmethod
    def _make(body: Any) -> _core.Request:
        if isinstance(body, (bytes, bytearray, memoryview)):
            return _core.Request.of_data(bytes(body), is_json=False)
        return _core.Request.of_data(json_text(body).encode(), is_json=True)
