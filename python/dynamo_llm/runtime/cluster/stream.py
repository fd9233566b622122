# SPDX-License-Identifier: Apache-2.0
"""Streams of Dynamo's clients."""

import asyncio
import logging
from typing import Any

#: Seconds that a worker gets to end its stream after its last item.
_patience = 5.0

_log = logging.getLogger("dynamo_llm.cluster")

_draining: set[asyncio.Task[None]] = set()


def drain(stream: Any) -> None:
    """Let a stream whose last item was received come to its end. Dynamo takes one that is dropped for
    cancelled, and tells the worker so.
    """
    task = asyncio.ensure_future(_read(stream))
    _draining.add(task)
    task.add_done_callback(_draining.discard)


async def _read(stream: Any) -> None:
    async def read() -> None:
        async for _ in stream:
            pass

    try:
        await asyncio.wait_for(read(), _patience)
    except Exception as error:  # the answer is whole already
        _log.debug("a stream did not end well: %r", error)
