# SPDX-License-Identifier: Apache-2.0
"""A worker that joins a cluster and leaves it again and again, as by leases that end: churning.py DISCOVERY
COUNT. It prints "joined" each time it is registered.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

from dynamo._core import DistributedRuntime, ModelInput, ModelType, WorkerType, register_model
from dynamo_llm import paths


async def unused(request: Any) -> AsyncIterator[Any]:
    """Answers nothing."""
    yield {}


async def main(discovery: str, count: int) -> None:
    """Joins and leaves."""
    for _ in range(count):
        runtime = DistributedRuntime(asyncio.get_running_loop(), discovery, "tcp", event_plane="zmq")
        endpoint = runtime.endpoint("dynamo.churning.generate")
        serving = asyncio.ensure_future(endpoint.serve_endpoint(unused))
        await register_model(
            ModelInput.Tokens,
            ModelType.Chat | ModelType.Completions,
            endpoint,
            str(paths.demo_model_dir()),
            "churning",
            worker_type=WorkerType.Aggregated,
            kv_cache_block_size=16,
        )
        print("joined", flush=True)
        await asyncio.sleep(0.3)
        runtime.shutdown()
        await asyncio.wait([serving], timeout=10)
        await asyncio.sleep(0.3)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
