# SPDX-License-Identifier: Apache-2.0
"""The time limits of one request to a server."""

import asyncio
import math
from collections.abc import Awaitable
from typing import TypeVar

from dynamo_llm.errors import DeadlineExceededError

_T = TypeVar("_T")


class RequestTimeouts:
    """The time limits of one request. They apply while :meth:`wait` waits, not while the caller of the
    library processes what has come.

    :param url: the server's URL, for errors.
    :param idle: seconds without progress, ``options.read_timeout``; see :meth:`renew`.
    :param total: seconds of all attempts and pauses together, ``options.timeout``; None for no limit.
    """

    def __init__(self, url: str, idle: float, total: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._url = url
        self._idle = idle
        self._total = total
        self._end = math.inf if total is None else self._loop.time() + total
        self._idle_end = 0.0
        self.renew()

    def renew(self) -> None:
        """Restarts the idle limit: an attempt begins, or something came that goes to the caller."""
        self._idle_end = self._loop.time() + self._idle

    async def wait(self, awaitable: Awaitable[_T]) -> _T:
        """Awaits something from the network, within both limits.

        :raises DeadlineExceededError: a limit passed.
        """
        return await self._wait(awaitable, min(self._idle_end, self._end))

    async def wait_long(self, awaitable: Awaitable[_T]) -> _T:
        """Awaits something that does not depend on the server: a pause between attempts, a free connection.
        Only the total limit applies.

        :raises DeadlineExceededError: the limit passed.
        """
        result = await self._wait(awaitable, self._end)
        self.renew()
        return result

    async def _wait(self, awaitable: Awaitable[_T], end: float) -> _T:
        if end == math.inf:
            return await awaitable
        task = asyncio.current_task()
        assert task is not None
        is_over = False

        def interrupt() -> None:
            nonlocal is_over
            is_over = True
            task.cancel()

        handle = self._loop.call_at(end, interrupt)
        try:
            result = await awaitable
        except asyncio.CancelledError:
            if not is_over:
                raise
            if hasattr(task, "uncancel"):  # since Python 3.11
                task.uncancel()
            raise self._error() from None
        finally:
            handle.cancel()
        # If data comes without a pause, the event loop has no chance to call interrupt().
        if self._loop.time() > end:
            raise self._error()
        return result

    def _error(self) -> DeadlineExceededError:
        if self._end <= self._idle_end:
            return DeadlineExceededError(
                f'the answer of {self._url} took longer than "options.timeout", {self._total:g} s'
            )
        return DeadlineExceededError(
            f'{self._url} sent no content for longer than "options.read_timeout", {self._idle:g} s'
        )
