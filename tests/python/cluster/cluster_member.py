# SPDX-License-Identifier: Apache-2.0
"""A worker or a client of a cluster: cluster_member.py ROLE JSON, with the keys of a configuration's cluster,
and "seconds", the timeout of the connection.

The worker prints "ready" and serves until its stdin ends. The client sends one request and prints the answer.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

from dynamo_llm.runtime.cluster import dynamo_import
from dynamo_llm.runtime.cluster.planes import Planes, claim


async def handler(request: Any) -> AsyncIterator[Any]:
    """Echoes the request."""
    yield request


async def serve(endpoint: Any) -> None:
    """Serves until stdin ends."""
    serving = asyncio.ensure_future(endpoint.serve_endpoint(handler))
    client = await endpoint.client()
    await client.wait_for_instances()
    print("ready", client.instances()[0].transport.address, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    assert not serving.done(), serving.exception()


async def ask(endpoint: Any) -> None:
    """Sends one request."""
    client = await endpoint.client()
    await asyncio.wait_for(client.wait_for_instances(), 60)
    try:
        stream = await client.round_robin("hello", annotated=False)
        print([item async for item in stream], flush=True)
    except Exception as error:
        print(f"{type(error).__name__}: {error}", flush=True)


async def main(role: str, cluster: dict[str, Any]) -> None:
    """Connects, and runs the role."""
    core = dynamo_import.import_core()
    planes = Planes.read("127.0.0.1", cluster.get("tls", {}))
    planes.check_urls(cluster.get("etcd", []), cluster.get("nats", []))
    claim(planes)
    variables = {
        **planes.of_construction(),
        "ETCD_STARTUP_CONNECT_TIMEOUT_SECONDS": str(cluster.get("seconds", 60)),
        "NATS_STARTUP_CONNECT_TIMEOUT_SECONDS": str(cluster.get("seconds", 60)),
        "ETCD_ENDPOINTS": ",".join(cluster.get("etcd", [])),
        "NATS_SERVER": ",".join(cluster.get("nats", [])),
        "DYN_FILE_KV": cluster.get("path", ""),
    }
    os.environ.update({name: value for name, value in variables.items() if value})
    plane = cluster.get("request_plane", "tcp")
    try:
        runtime = core.DistributedRuntime(
            asyncio.get_running_loop(),
            cluster["discovery"],
            plane,
            event_plane="nats" if "nats" in cluster else "zmq",
        )
    except Exception as error:
        print(f"no runtime: {error}", flush=True)
        return
    await (serve if role == "worker" else ask)(runtime.endpoint("dynamo.member.generate"))
    runtime.shutdown()
    await asyncio.sleep(0.3)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
