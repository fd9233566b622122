# SPDX-License-Identifier: Apache-2.0
"""A request and its stream of responses."""

import asyncio
import json
from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import Any, Generic, TypeVar

from dynamo_llm import _core
from dynamo_llm._core import STATUSES, Response, Timing
from dynamo_llm.api.duration import FOREVER, milliseconds

Result = TypeVar("Result")
Self = TypeVar("Self", bound="Request[Any]")

_OK = STATUSES["DYNAMO_OK"]
_END = STATUSES["DYNAMO_END"]


def _wake(waiters: list[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)


class Request(Generic[Result]):
    """One run, from its body to its end. :class:`dynamo_llm.Runtime` makes and sends it.

    Take the answer as it comes, with ``for response in request`` or ``async for response in request``, or
    as a whole, with ``request.result()`` or ``await request``. Both ways raise the error that ends the
    request: what came before it was given first.

    A request may be used from several threads and tasks at once; each response goes to one of them. It
    is cancelled when it is dropped, or at the end of a ``with request:``.
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
        first = milliseconds(first_token_timeout, "first_token_timeout")
        total = milliseconds(timeout, "timeout")
        if (first, total) != (FOREVER, FOREVER):
            self._core.set_deadlines(first, total)
        self._waiters: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}

    @staticmethod
    def _make(body: Any) -> _core.Request:
        return _core.Request(json.dumps(body))

    @property
    def body(self) -> Any:
        """OpenAI's body, or the data, as it was sent."""
        return self._body

    @property
    def id(self) -> str:
        """``req-`` and 16 hexadecimal digits, unique in this process: what logs and errors carry."""
        return self._core.id

    @property
    def status(self) -> int:
        """2 (``DYNAMO_PENDING``) before the end, then 1 (``DYNAMO_END``) or the error's status.

        Whether or not everything was received.
        """
        return self._core.status

    @property
    def timing(self) -> Timing:
        """When what happened to it, in seconds since it was sent, so far; None before it was sent."""
        return self._core.timing

    def receive(self, timeout: float | None = None) -> Response | None:
        """Wait for more of the answer: everything that has come since the last call.

        Blocks without the GIL. In the main thread Ctrl-C cancels the request.

        :param timeout: seconds to wait at most; None for ever, 0 for what is there already.
        :returns: None after the end, as often as it is called.
        :raises TimeoutError: nothing came in that time; the request goes on.
        :raises DynamoError: what ended the request.
        """
        wait = milliseconds(timeout, "timeout")
        try:
            status, response = self._core.receive(wait)
        except KeyboardInterrupt:
            self.cancel()
            raise
        if status not in (_OK, _END):
            raise TimeoutError(f"nothing of the answer came in {timeout} seconds")
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
        """Wait, on the caller's loop, until there is something to receive."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        # A loop calls one function for a descriptor; several tasks may wait.
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
        """The whole answer, or what is left of it; again the same. Blocks as :meth:`receive` does.

        :raises DynamoError: what ended the request.
        """
        if self._whole is None:
            self._whole = self._result_of(list(self))
        return self._whole

    async def _result(self) -> Result:
        if self._whole is None:
            try:
                self._whole = self._result_of([response async for response in self])
            except asyncio.CancelledError:
                self.cancel()  # what it had taken is lost
                raise
        return self._whole

    def __await__(self) -> Generator[Any, None, Result]:
        """``await request``: :meth:`result`, without blocking the loop; cancelled, it cancels the request."""
        return self._result().__await__()

    def cancel(self) -> None:
        """End the request, from any thread, at any time, also again; does not wait.

        Who waits for it, and who asks later, gets :class:`dynamo_llm.CancelledError`, after what had come.
        """
        self._core.cancel()

    def fileno(self) -> int:
        """A descriptor that is readable while there is something to receive, for ``select`` and event loops.

        It lives as long as the request. Only wait on it.
        """
        return self._core.fileno()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def __repr__(self) -> str:
        names = {number: name.removeprefix("DYNAMO_") for name, number in STATUSES.items()}
        return f"<Request {self.id} {names.get(self.status, self.status)}>"


class DataRequest(Request[list[Any]]):
    """A :class:`Request` of data in place of an OpenAI body: bytes, or what JSON has. Its responses have
    ``items``, and its result is the list of all of them.
    """

    @staticmethod
    def _make(body: Any) -> _core.Request:
        if isinstance(body, (bytes, bytearray, memoryview)):
            return _core.Request.of_data(bytes(body), is_json=False)
        return _core.Request.of_data(json.dumps(body, allow_nan=False).encode(), is_json=True)
