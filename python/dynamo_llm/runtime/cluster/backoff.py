# SPDX-License-Identifier: Apache-2.0
"""Exponential backoff with jitter."""

import asyncio
import random


class Backoff:
    """Pauses between attempts, from ``first`` to ``longest`` seconds. Each is up to twice as long as the one
    before; the jitter keeps many clients from retrying at the same time.
    """

    def __init__(self, first: float, longest: float) -> None:
        self._next = first
        self._longest = longest

    async def pause(self) -> None:
        """Sleeps before the next attempt."""
        seconds, self._next = self._next, min(2 * self._next, self._longest)
        await asyncio.sleep(seconds * random.uniform(0.5, 1.0))
