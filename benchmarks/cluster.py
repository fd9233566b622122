# SPDX-License-Identifier: Apache-2.0
"""Measures a stream across a cluster: the library's client in C, and Dynamo's own client in Python. Both send
requests to the same worker, served by Dynamo's package, on the loopback interface (discovery by a folder,
requests over TCP).

    python benchmarks/cluster.py worker         serves bench.worker.count until its stdin ends
    python benchmarks/cluster.py client COUNT   reads COUNT items per round

The environment variable DYN_FILE_KV names the folder for the cluster's discovery.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

_endpoint = "bench.worker.count"
_hosts = ("DYN_TCP_RPC_HOST", "DYN_TCP_RESPONSE_STREAM_HOST", "DYN_EVENT_PLANE_HOST")


def _runtime() -> Any:
    from dynamo_llm.runtime.cluster import dynamo_import

    dynamo_import.import_core()  # otherwise it writes a line for each request
    from dynamo.runtime import DistributedRuntime

    return DistributedRuntime(asyncio.get_running_loop(), "file", "tcp", event_plane="zmq")


async def _serve() -> None:
    async def count(request: Any, context: Any) -> AsyncIterator[Any]:
        for i in range(request["count"]):
            yield {"token_ids": [i], "text": " tok"}

    endpoint = _runtime().endpoint(_endpoint)
    serving = asyncio.ensure_future(endpoint.serve_endpoint(count))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    serving.cancel()
    os._exit(0)  # Dynamo's threads would keep the process alive


async def _read(count: int) -> None:
    endpoint = _runtime().endpoint(_endpoint)
    client = await endpoint.client()
    await client.wait_for_instances()
    print("ready", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        begin = time.perf_counter()
        tokens = 0
        async for item in await client.generate({"count": count}):
            tokens += len(item.data()["token_ids"])
        seconds = time.perf_counter() - begin
        print(json.dumps({"tokens": tokens, "seconds": seconds}), flush=True)
    os._exit(0)


@contextmanager
def new_cluster(namespace: str) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """Creates a cluster on the loopback interface, without servers. Yields the key "cluster" of a
    configuration, and the environment for its other processes.
    """
    with tempfile.TemporaryDirectory(prefix="dynamo-llm-bench-cluster-") as place:
        planes = {"discovery": "file", "request_plane": "tcp", "event_plane": "zmq"}
        settings = {**planes, "path": place, "namespace": namespace, "host": "127.0.0.1"}
        yield settings, {**dict.fromkeys(_hosts, "127.0.0.1"), "DYN_FILE_KV": place}


def measure_streams(bench: Any, is_pinned: bool) -> tuple[list[float], list[float]]:
    """Measures both clients in turns; the worker is a separate process."""
    from programs import Side, folder
    from ratio import measure

    script = str(folder / "cluster.py")
    count = bench.of(20_000)
    # The worker has its own CPU, as if it ran on another machine.
    *others, last = sorted(os.sched_getaffinity(0))
    mine = others or [last]
    program = bench.programs.compile("items")
    with new_cluster("bench") as (settings, variables):
        configuration = json.dumps(
            {"engine": "dynamo-endpoint", "options": {"endpoint": _endpoint}, "cluster": settings}
        )
        with (
            Side([sys.executable, script, "worker"], is_pinned, variables, [last]),
            Side([program, configuration, count], is_pinned, cpus=mine) as ours,
            Side([sys.executable, script, "client", count], is_pinned, variables, mine) as base,
        ):

            def speed(side: Any) -> float:
                result = side.round()
                return float(result["tokens"] / result["seconds"])

            return measure(lambda: speed(ours), lambda: speed(base), bench.rounds)


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        asyncio.run(_serve())
    else:
        asyncio.run(_read(int(sys.argv[2])))
