# SPDX-License-Identifier: Apache-2.0
"""Two ways to pass the tokens of one step loop to the callers. The prompt is the number of tokens."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from dynamo_llm.runtime.sink import Sink, push_many


class PerRequest:
    """The usual design of engines with an interface per request: each request has a buffer and an event,
    which the step fills, and a generator that empties it.
    """

    def __init__(self, config: Any) -> None:
        """Accepts no options."""
        self._rows: dict[int, tuple[list[int], asyncio.Event, int]] = {}
        self._task: asyncio.Task[None] | None = None
        self._next = 0

    def start(self) -> None:
        """Does nothing."""

    async def _run(self) -> None:
        step = 0
        while self._rows:
            for buffer, event, _ in self._rows.values():
                buffer.append(step)
                event.set()
            step += 1
            await asyncio.sleep(0)
        self._task = None

    async def generate(self, request: Any) -> AsyncIterator[dict[str, Any]]:
        """Yields the tokens."""
        count = int(request.body["prompt"])
        buffer: list[int] = []
        event = asyncio.Event()
        number = self._next = self._next + 1
        self._rows[number] = (buffer, event, count)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        try:
            while count > 0:
                await event.wait()
                event.clear()
                ids, buffer[:] = buffer[:count], []
                for i in ids:
                    yield {"token_ids": [i], "text": " tok", "index": 0}
                count -= len(ids)
        finally:
            del self._rows[number]

    def stop(self) -> None:
        """Does nothing."""


class Together:
    """Pushes the step's tokens to all callers in one call."""

    kind = "steps"

    def __init__(self, config: Any) -> None:
        """Accepts no options."""
        self._rows: dict[Sink, int] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Does nothing."""

    def add(self, request: Any, sink: Sink) -> None:
        """Adds the request to the next step."""
        self._rows[sink] = int(request.body["prompt"])
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def cancel(self, sink: Sink) -> None:
        """Removes the request."""
        if self._rows.pop(sink, None) is not None:
            sink.finish()

    async def _run(self) -> None:
        step = 0
        while self._rows:
            sinks = list(self._rows)
            full = push_many(sinks, [step] * len(sinks), [" tok"] * len(sinks))
            for number, sink in enumerate(sinks):
                if number in full:
                    continue
                self._rows[sink] -= 1
                if self._rows[sink] == 0:
                    del self._rows[sink]
                    sink.finish()
            step += 1
            await asyncio.sleep(0)
        self._task = None

    def stop(self) -> None:
        """Does nothing."""
