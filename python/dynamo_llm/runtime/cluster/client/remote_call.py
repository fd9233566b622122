# SPDX-License-Identifier: Apache-2.0
"""A call to a worker of a cluster, whose response is a stream of items."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

from dynamo_llm.runtime.cluster.client.delivery import deliver
from dynamo_llm.runtime.cluster.client.errors import error_of
from dynamo_llm.runtime.cluster.request_metadata import metadata_of

_log = logging.getLogger("dynamo_llm.cluster")

#: Seconds that a worker gets to end its stream after its last item.
_drain_timeout = 5.0

_draining: set[asyncio.Task[None]] = set()


class RemoteCall:
    """A call in progress. Created by :func:`remote_call`."""

    def __init__(self, context: Any) -> None:
        self.context = context
        """Dynamo's, to be passed to the client."""
        self.stream: Any = None
        """The items, once Dynamo's client has returned them."""
        self.is_complete = False
        """Whether the whole response was read; otherwise the end of the call cancels the request."""

    async def send(
        self, client: Any, data: Any, instance: int | None, seconds: float, *, is_repeatable: bool
    ) -> Any:
        """Sends a request through Dynamo's client of an endpoint, and returns the stream of items.

        :param instance: id of the instance that gets it; None: the client's router selects one.
        :param seconds: how long to send it again while no instance receives it.
        :param is_repeatable: whether two instances may execute it.
        """

        async def send_once() -> Any:
            if instance is None:
                return await client.generate(data, annotated=False, context=self.context)
            return await client.direct(data, instance, annotated=False, context=self.context)

        self.stream = await deliver(send_once, seconds, is_repeatable=is_repeatable)
        return self.stream

    def end_early(self) -> None:
        """Marks the response as complete, after its last item and before the stream's end. The rest of the
        stream is read in the background: Dynamo treats a dropped stream as cancelled, and tells the worker.
        """
        self.is_complete = True
        task = asyncio.ensure_future(_drain(self.stream))
        _draining.add(task)
        task.add_done_callback(_draining.discard)


@contextlib.asynccontextmanager
async def remote_call(
    core: Any, request_id: str, trace: dict[str, str] | None, remaining: float | None
) -> AsyncIterator[RemoteCall]:
    """Makes a call inside the context. Leaving it early cancels the request; Dynamo's errors are translated.

    :param core: the module ``dynamo._core``.
    :param trace: the W3C trace context.
    :param remaining: seconds until the deadline; None without one.
    """
    call = RemoteCall(core.Context(id=request_id, metadata=metadata_of(trace, remaining)))
    try:
        yield call
    except Exception as error:
        known = error_of(error)
        if known is error:
            raise
        raise known from error
    finally:
        if not call.is_complete:
            call.context.stop_generating()
        call.stream = None  # dropping it stops the worker at once, too


async def _drain(stream: Any) -> None:
    async def read() -> None:
        async for _ in stream:
            pass

    try:
        await asyncio.wait_for(read(), _drain_timeout)
    except Exception as error:  # the response is complete already
        _log.debug("a stream ended with an error: %r", error)
