# SPDX-License-Identifier: Apache-2.0
"""A program with Dynamo's own client: sends one request, and prints each item of the answer as JSON.

Arguments: the planes, the endpoint's path, the request as a Python literal, and metadata as JSON.
"""

import ast
import asyncio
import json
import sys
from typing import Any

from dynamo._core import Context, DistributedRuntime


def plain(value: Any) -> Any:
    """Converts a value to JSON: bytes become an object."""
    return {"bytes": value.hex()} if isinstance(value, bytes) else value


async def main(discovery: str, requests: str, events: str, path: str, request: str, metadata: str) -> None:
    """Sends the request."""
    runtime = DistributedRuntime(asyncio.get_running_loop(), discovery, requests, event_plane=events)
    client = await runtime.endpoint(path).client()
    await asyncio.wait_for(client.wait_for_instances(), 60)
    context = Context(metadata=json.loads(metadata))
    try:
        stream = await client.round_robin(ast.literal_eval(request), annotated=False, context=context)
        async for item in stream:
            print(json.dumps(plain(item)), flush=True)
    except Exception as error:
        print(json.dumps({"error": str(error), "type": type(error).__name__}), flush=True)
    runtime.shutdown()
    await asyncio.sleep(0.3)


asyncio.run(main(*sys.argv[1:]))
