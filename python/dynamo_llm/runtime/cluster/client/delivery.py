# SPDX-License-Identifier: Apache-2.0
"""Sends a request until a worker has received it.

Some errors of Dynamo's client mean that no worker has received the request: it was never written to a
connection, or the process at the worker's address refused it because it does not serve the endpoint. Sending
such a request again cannot execute it twice, whatever it does. The other errors of a connection leave open
what the worker received.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import TypeVar

from dynamo_llm.runtime.cluster.backoff import Backoff

T = TypeVar("T")

#: Seconds that a request is sent again even if it must not wait for a worker: another one may be there.
_time_for_others = 5.0
#: Message of the error if no worker is left to try.
_none = "No workers available for endpoint "
#: Messages of all errors of this kind. Dynamo has no class or code for them.
_undelivered = re.compile(
    # All workers are put aside after errors, or the selected one left before the request was sent.
    rf"{_none}|Instance \d+ not found and no other instances available"
    r"|Fallback instance \d+ also not found"
    r"|Worker removed before request could be sent"
    # Another request was connecting to a worker that is dead; it failed, and this one never tried.
    r"|No healthy TCP connection to "
    # The connection to the worker had ended when the request was to be written.
    r"|Connection unhealthy \(tasks failed\)"
    r"|Connection closed \((?:writer exited|admission gate shut)\)"
    # Another process has the port of a worker that died.
    r"|Server unavailable: unknown endpoint"
)


#: Dynamo could not connect, or the connection ended before the worker acknowledged the request: the message
#: does not tell which.
_maybe_delivered = re.compile(r"TCP connection to \S+ failed")


def was_undelivered(error: BaseException) -> bool:
    """Whether Dynamo's client raised this error for a request that no worker has received."""
    return _undelivered.search(str(error)) is not None


async def deliver(send: Callable[[], Awaitable[T]], seconds: float, *, is_repeatable: bool) -> T:
    """Sends a request, again while no worker receives it.

    :param send: sends it once; Dynamo's router selects a worker each time.
    :param seconds: how long to wait for a worker if all have left or are put aside.
    :param is_repeatable: whether two workers may execute it, as is harmless for the generation of an answer.
    :returns: what ``send`` returns.
    :raises Exception: that of the last attempt.
    """
    loop = asyncio.get_running_loop()
    start = loop.time()
    backoff = Backoff(0.02, 1.0)
    while True:
        try:
            return await send()
        except Exception as error:
            may_repeat = is_repeatable and _maybe_delivered.search(str(error))
            limit = seconds if _none in str(error) else max(seconds, _time_for_others)
            if not (was_undelivered(error) or may_repeat) or loop.time() - start >= limit:
                raise
        await backoff.pause()
