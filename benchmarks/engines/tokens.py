# SPDX-License-Identifier: Apache-2.0
"""Engines that do nothing but yield tokens: what is measured is their way to the caller. The prompt is the
number of tokens.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

Chunks = AsyncIterator[dict[str, Any]]


class _Engine:
    def __init__(self, config: Any) -> None:
        """Take no options."""

    def start(self) -> None:
        """Have nothing to load."""

    def stop(self) -> None:
        """Have nothing to free."""


class Suspending(_Engine):
    """A turn of the loop for each token, as engines have that wait for a step."""

    async def generate(self, request: Any) -> Chunks:
        """Say the tokens."""
        for i in range(int(request.body["prompt"])):
            await asyncio.sleep(0)
            yield {"token_ids": [i], "text": " tok", "index": 0}


class BusySuspending(Suspending):
    """Beside a Python thread that computes."""

    def start(self) -> None:
        """Start it; it ends with the process."""

        def spin() -> None:
            while True:
                pass

        threading.Thread(target=spin, daemon=True).start()


class Flat(_Engine):
    """Without a pause, as engines do that have several tokens at once."""

    async def generate(self, request: Any) -> Chunks:
        """Say the tokens."""
        for i in range(int(request.body["prompt"])):
            yield {"token_ids": [i], "text": " tok", "index": 0}


class Waiting(_Engine):
    """Never says a word: for what a stream takes of memory."""

    async def generate(self, request: Any) -> Chunks:
        """Wait for the cancel."""
        await asyncio.Event().wait()
        yield {}


class Talking(_Engine):
    """A word, and another every 100 ms, for ever; "prefill" never has its first."""

    async def generate(self, request: Any) -> Chunks:
        """Say words."""
        if request.body["prompt"] == "prefill":
            await asyncio.Event().wait()
        while True:
            yield {"token_ids": [0], "text": " tok"}
            await asyncio.sleep(0.1)
