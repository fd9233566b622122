# SPDX-License-Identifier: Apache-2.0
"""Serves the endpoint dynamo.tools.call with NVIDIA Dynamo's own package, and executes commands."""

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from dynamo.llm.exceptions import HttpError, InvalidArgument
from dynamo.runtime import DistributedRuntime


def say(**words: Any) -> None:
    print(json.dumps(words), flush=True)


async def call(request: Any, context: Any) -> AsyncIterator[Any]:
    """Executes a command, and echoes everything else."""
    if not isinstance(request, dict) or "do" not in request:
        yield request
        return
    what, count = request["do"], request.get("count", 1)
    if what == "count":
        for number in range(count):
            yield {"number": number}
    elif what == "nested bytes":
        yield {"inside": b"\x00"}
    elif what == "metadata":
        yield dict(context.metadata)
    elif what == "hang":
        yield "hanging"
        while not context.is_stopped():
            await asyncio.sleep(0.01)
        say(stopped=context.id())
    elif what == "refuse":
        raise InvalidArgument("that is wrong")
    elif what == "overload":
        raise HttpError(429, "too much")
    elif what == "break":
        yield "first"
        raise RuntimeError("broken")


async def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("discovery", "request-plane", "event-plane"):
        parser.add_argument(f"--{name}")
    given = parser.parse_args()
    runtime = DistributedRuntime(
        asyncio.get_running_loop(), given.discovery, given.request_plane, event_plane=given.event_plane
    )
    endpoint = runtime.endpoint("dynamo.tools.call")
    say(instance=endpoint.connection_id())
    await endpoint.serve_endpoint(call)


asyncio.run(main())
