# SPDX-License-Identifier: Apache-2.0
"""The calls of a router that many threads of the host make at once."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from dynamo_llm import _core
from dynamo_llm.runtime.cluster.router.selection import SelectedWorker, Selection
from dynamo_llm.runtime.error_report import describe

#: A call, as a coroutine that only awaits futures. Returns the selected workers, if it selects.
Call = Coroutine["asyncio.Future[Any]", None, Selection | None]


class RouterCalls:
    """Executes calls on the event loop, and answers those that end in the same turn of the loop together.

    Calls start in the order in which they were made; none waits for the one before. Tasks are not used: they
    would double the work of the event loop.

    :param functions: by their numbers in ``dynamo_router_function`` (cpp/embed/bridge.h). Each gets the id of
        the request, which is None for a selection that reserves nothing, and the call's arguments.
    """

    def __init__(self, functions: Sequence[Callable[..., Call]]) -> None:
        self._functions = functions
        self._loop = asyncio.get_running_loop()
        self._answers: list[tuple[int, SelectedWorker | None, SelectedWorker | None]] = []

    def execute(self, calls: list[tuple[int, int, str | None, tuple[Any, ...]]]) -> None:
        """Starts calls: (id, function, request_id, arguments)."""
        for id, function, request_id, arguments in calls:
            self._advance(id, self._functions[function](request_id, *arguments))

    def _advance(self, id: int, call: Call, _ended: object = None) -> None:
        """Executes a call until it waits for a future, or ends."""
        try:
            future = call.send(None)
            future._asyncio_future_blocking = False  # as a task does
            future.add_done_callback(partial(self._advance, id, call))
        except StopIteration as end:
            selection: Selection | None = end.value
            if not self._answers:
                self._loop.call_soon(self._answer)
            self._answers.append((id, None, None) if selection is None else (id, *selection))
        except BaseException as error:
            _core.router_fail(id, *describe(error))

    def _answer(self) -> None:
        answers, self._answers = self._answers, []
        try:
            _core.router_answer(answers)
        except BaseException as error:
            for id, *_ in answers:
                _core.router_fail(id, *describe(error))
