# SPDX-License-Identifier: Apache-2.0
"""A member of a cluster in a process of its own: port_owner.py ROLE CLUSTER. It prints the addresses at which
it listens, as JSON.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from dynamo_llm import DynamoError, KvPublisher, Router, Runtime, Worker


def listening() -> list[tuple[str, int]]:
    """Returns the addresses and ports of the listening sockets of this process."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(name))) as one:
                is_tcp = one.family in (socket.AF_INET, socket.AF_INET6)
                if is_tcp and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    found.append(one.getsockname()[:2])
        except OSError:
            continue
    return sorted(found)


def worker(cluster: dict[str, Any]) -> AbstractContextManager[Any]:
    """Serves a model."""
    engine = {"engine": "sequence:SequenceEngine", "python": {"path": [str(Path(__file__).parent)]}}
    return Worker({"endpoint": "own.generate", "runtime": engine, "cluster": cluster})


def client(cluster: dict[str, Any]) -> AbstractContextManager[Any]:
    """Uses a model."""
    runtime = Runtime(engine="dynamo", cluster=cluster)
    runtime.complete([5], max_tokens=1).result()
    return runtime


def endpoint(cluster: dict[str, Any]) -> AbstractContextManager[Any]:
    """Calls an endpoint that has no instances."""
    options = {"endpoint": "nobody.generate", "wait_for_instance_ms": 100}
    runtime = Runtime(engine="dynamo-endpoint", cluster=cluster, options=options)
    try:
        runtime.data({}).result()
    except DynamoError:
        return runtime
    raise AssertionError("it has instances")


roles: dict[str, Callable[[dict[str, Any]], AbstractContextManager[Any]]] = {
    "worker": worker,
    "client": client,
    "endpoint": endpoint,
    "publisher": lambda cluster: KvPublisher(endpoint="own.generate", kv_block_size=16, cluster=cluster),
    "router": lambda cluster: Router(endpoint="position.generate", kv_block_size=16, cluster=cluster),
}

if __name__ == "__main__":
    with roles[sys.argv[1]](json.loads(sys.argv[2])):
        time.sleep(2)  # Dynamo opens some of them later
        print(json.dumps([address for address, _ in listening()]), flush=True)
