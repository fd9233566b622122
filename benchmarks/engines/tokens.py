# SPDX-License-Identifier: Apache-2.0
"""Engines that only yield tokens, so that the benchmark measures the path from the engine to the caller. The
prompt is the number of tokens.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

Chunks = AsyncIterator[dict[str, Any]]


class _Engine:
    def __init__(self, config: Any) -> None:
        """Accepts no options."""

    def start(self) -> None:
        """Does nothing."""

    def stop(self) -> None:
        """Does nothing."""


class Suspending(_Engine):
    """Suspends for one iteration of the event loop per token, like engines that wait for a step."""

    async def generate(self, request: Any) -> Chunks:
        """Yields the tokens."""
        for i in range(int(request.body["prompt"])):
            await asyncio.sleep(0)
            yield {"token_ids": [i], "text": " tok", "index": 0}


class BusySuspending(Suspending):
    """Does the same while another Python thread computes."""

    def start(self) -> None:
        """Starts that thread, which ends with the process."""

        def spin() -> None:
            while True:
                pass

        threading.Thread(target=spin, daemon=True).start()


class Flat(_Engine):
    """Never suspends, like engines that have several tokens at once."""

    async def generate(self, request: Any) -> Chunks:
        """Yields the tokens."""
        for i in range(int(request.body["prompt"])):
            yield {"token_ids": [i], "text": " tok", "index": 0}


class Paced(_Engine):
    """Yields a token every ``options.pace_ms`` milliseconds. Its text is the time at which it was generated,
    in nanoseconds of the monotonic clock, which all processes of a machine share.
    """

    def __init__(self, config: Any) -> None:
        """Reads the option."""
        self._pace: float = config.options["pace_ms"] / 1000

    async def generate(self, request: Any) -> Chunks:
        """Yield the tokens."""
        due = time.monotonic()
        for i in range(int(request.body["prompt"])):
            due += self._pace
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            yield {"token_ids": [i], "text": f" {time.monotonic_ns()}", "index": 0}


class Waiting(_Engine):
    """Never yields a token, to measure the memory of a stream."""

    async def generate(self, request: Any) -> Chunks:
        """Waits for the cancellation."""
        await asyncio.Event().wait()
        yield {}


class Talking(_Engine):
    """Yields a word every 100 ms without end; for the prompt "prefill", it never yields the first one."""

    async def generate(self, request: Any) -> Chunks:
        """Yields the words."""
        if request.body["prompt"] == "prefill":
            await asyncio.Event().wait()
        while True:
            yield {"token_ids": [0], "text": " tok"}
            await asyncio.sleep(0.1)
