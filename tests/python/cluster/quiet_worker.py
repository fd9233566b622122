# SPDX-License-Identifier: Apache-2.0
"""A program that is client and worker of its own cluster in a folder: quiet_worker.py FOLDER HOW.

It writes the results that clients receive to stdout. HOW: "prepared" imports Dynamo as the library does,
"refused" does so while the system does not allow a separate descriptor table, "plain" imports Dynamo
directly.
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_args

from dynamo_llm.runtime.cluster import dynamo_import
from dynamo_llm.runtime.cluster.worker.failure import Kind, failure


async def handler(request: dict[str, Any], context: Any) -> AsyncIterator[Any]:
    """Counts, or fails as requested."""
    if request["do"] == "raise":
        raise ValueError("an exception")
    yield {"number": 0}
    if request["do"] == "forever":
        while not context.is_stopped():
            await asyncio.sleep(0.01)
            yield {"number": 1}
    elif request["do"] != "count":
        yield failure(request["do"], "what happened")


async def ask(client: Any, core: Any, do: str) -> str:
    """Returns a summary of the result of a request."""
    context = core.Context()
    try:
        items = 0
        async for _ in await client.round_robin({"do": do}, annotated=False, context=context):
            items += 1
            if items == 3:
                context.stop_generating()
        return f"{items} items"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


async def main(core: Any) -> None:
    """Serves, sends requests, and ends."""
    runtime = core.DistributedRuntime(asyncio.get_running_loop(), "file", "tcp")
    endpoint = runtime.endpoint("dynamo.quiet.generate")
    serving = asyncio.ensure_future(endpoint.serve_endpoint(handler))
    client = await endpoint.client()
    await asyncio.wait_for(client.wait_for_instances(), 60)
    if "raise" in sys.argv:
        print("raise gives", await asyncio.wait_for(ask(client, core, "raise"), 60))
    for do in ("count", "forever", *get_args(Kind)):  # the client excludes the worker after the last one
        print(do, "gives", await asyncio.wait_for(ask(client, core, do), 60))
    runtime.shutdown()
    await asyncio.wait([serving], timeout=60)
    await asyncio.sleep(0.3)


def descriptors() -> dict[str, str]:
    """Returns the process's descriptors and their targets."""
    folder = "/proc/self/fd"
    names = [name for name in os.listdir(folder) if os.path.exists(f"{folder}/{name}")]
    return {name: os.readlink(f"{folder}/{name}") for name in names}


if __name__ == "__main__":
    os.environ["DYN_FILE_KV"] = str(Path(sys.argv[1]) / "kv")
    os.environ["ETCD_ENDPOINTS"] = "http://127.0.0.1:9"
    for name in ("DYN_TCP_RPC_HOST", "DYN_TCP_RESPONSE_STREAM_HOST", "DYN_EVENT_PLANE_HOST"):
        os.environ[name] = "127.0.0.1"
    if sys.argv[2] == "refused":
        dynamo_import._redirect_stderr = lambda: None
    if sys.argv[2] == "plain":
        import dynamo._core as module
    else:
        before = descriptors()
        module = dynamo_import.import_core()
        assert dynamo_import.import_core() is module is sys.modules["dynamo._core"]
        assert descriptors() == before, (before, descriptors())
        assert threading.active_count() == 1
        end = time.monotonic() + 60
        while len(os.listdir("/proc/self/task")) > 1:  # a joined thread disappears after a moment
            assert time.monotonic() < end, "the import left a thread"
            time.sleep(0.01)
    os.write(2, b"the host's\n")
    asyncio.run(main(module))
