# SPDX-License-Identifier: Apache-2.0
"""The calls of a router that many threads of the host make at once."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from dynamo_llm import _core
from dynamo_llm.runtime.cluster.router.selection import SelectedWorker, Selection
from dynamo_llm.runtime.error_report import describe

#: Executes a call: gets the id of the request and the arguments, and returns what was selected.
Function = Callable[..., Coroutine[Any, Any, Selection | None]]


class RouterCalls:
    """Executes calls in the order in which they were made, without waiting for one before the next, and
    answers those that end in the same turn of the event loop together. On the event loop.

    :param functions: by their numbers in ``dynamo_router_function`` (cpp/embed/bridge.h).
    """

    def __init__(self, functions: Sequence[Function]) -> None:
        self._functions = functions
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._answers: list[tuple[int, SelectedWorker | None, SelectedWorker | None]] = []

    def execute(self, calls: list[tuple[int, int, str | None, tuple[Any, ...]]]) -> None:
        """Starts to execute calls: (id, function, request_id, arguments)."""
        for call in calls:
            self._tasks[call[0]] = self._loop.create_task(self._execute(*call))

    async def _execute(
        self, id: int, function: int, request_id: str | None, arguments: tuple[Any, ...]
    ) -> None:
        try:
            selection = await self._functions[function](request_id, *arguments)
        except BaseException as error:
            _core.router_fail(id, *describe(error))
            return
        finally:
            del self._tasks[id]
        if not self._answers:
            self._loop.call_soon(self._answer)
        self._answers.append((id, None, None) if selection is None else (id, *selection))

    def _answer(self) -> None:
        answers, self._answers = self._answers, []
        try:
            _core.router_answer(answers)
        except BaseException as error:
            for id, *_ in answers:
                _core.router_fail(id, *describe(error))

    async def close(self) -> None:
        """Cancels the calls that are being executed. Their callers do not wait for them any more."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
