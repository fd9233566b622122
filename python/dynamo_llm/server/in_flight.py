# SPDX-License-Identifier: Apache-2.0
"""The requests that a server is serving."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dynamo_llm.api.request import Request
from dynamo_llm.errors import CancelledError, ClosedError, DynamoError, OverloadedError


class InFlight:
    """Counts the requests, refuses more than a limit, and ends them when the server stops. Used on one event
    loop.

    :param limit: how many requests are served at a time.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._requests: set[Request[Any]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._was_cancelled = False
        self.count = 0
        """Requests that are being served."""
        self.is_closed = False
        """Whether new requests are refused, because the server is about to stop."""

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Counts a request during the block.

        :raises ClosedError: the server is about to stop.
        :raises OverloadedError: the limit is reached.
        """
        if self.is_closed:
            raise self._closed()
        if self.count >= self._limit:
            raise OverloadedError(
                f"the server is already serving {self._limit} requests, its limit; try again later"
            )
        self.count += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.count -= 1
            if self.count == 0:
                self._idle.set()

    @contextmanager
    def cancellable(self, request: Request[Any]) -> Iterator[None]:
        """Lets :meth:`cancel_all` cancel a request during the block, and cancels it at the block's end."""
        self._requests.add(request)
        try:
            if self._was_cancelled:
                request.cancel()
            with request:
                yield
        finally:
            self._requests.discard(request)

    def close(self) -> None:
        """Refuses new requests from now on."""
        self.is_closed = True

    def cancel_all(self) -> None:
        """Cancels all requests, and those that get so far later."""
        self._was_cancelled = True
        for request in self._requests:
            request.cancel()

    async def wait_until_idle(self, timeout: float) -> bool:
        """Waits until no request is served.

        :param timeout: seconds.
        :returns: False if the timeout passed first.
        """
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except asyncio.TimeoutError:
            return False
        return True

    def explain(self, error: DynamoError) -> DynamoError:
        """Returns the error to report to a client: it did not cancel what :meth:`cancel_all` cancelled."""
        return self._closed() if self._was_cancelled and isinstance(error, CancelledError) else error

    @staticmethod
    def _closed() -> ClosedError:
        return ClosedError("the server is shutting down")
