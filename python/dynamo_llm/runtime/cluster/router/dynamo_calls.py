# SPDX-License-Identifier: Apache-2.0
"""Calls of Dynamo's asynchronous functions whose results arrive in batches."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from dynamo_llm import _core


class DynamoCalls:
    """Calls asynchronous functions of Dynamo at a high rate. On the event loop that creates it.

    Dynamo works in threads of its own. Each result passes to the event loop with
    ``call_soon_threadsafe()``, which costs a system call and a turn of the event loop, and takes the GIL four
    times on the way, each time with a new thread state of Python. Here, results that come before the
    event loop has looked wake it once, and a thread keeps its thread state.
    """

    def __init__(self) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self.create_future = loop.create_future  # called by Dynamo, as call_soon_threadsafe()
        self._results: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._is_woken = False

    def __call__(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Calls a function, which takes this object for the event loop.

        :returns: what the function returns: a future of the event loop.
        """
        asyncio._set_running_loop(self)  # type: ignore[arg-type]
        try:
            return function(*arguments, **named)
        finally:
            asyncio._set_running_loop(self._loop)

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *arguments: Any, context: object = None
    ) -> None:
        """Calls a function on the event loop. Dynamo's threads call this with their results."""
        _core.keep_thread_state()
        self._results.append((callback, arguments))
        if not self._is_woken:
            self._is_woken = True
            self._loop.call_soon_threadsafe(self._run)

    def _run(self) -> None:
        self._is_woken = False  # first: what is appended from now on wakes the event loop again
        results = self._results
        while results:
            callback, arguments = results.popleft()
            callback(*arguments)
