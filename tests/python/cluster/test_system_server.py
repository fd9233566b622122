# SPDX-License-Identifier: Apache-2.0
"""What workers and clients add to Dynamo's system server: metrics, and control calls as routes."""

import importlib.util
import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from cluster_rig import NewCluster
from cluster_rig.port import free_port
from dynamo_llm import InvalidConfigError, Runtime
from position_client import position_worker
from test_worker_card import listed, python_path, serve
from waiting import wait_until

if importlib.util.find_spec("dynamo") is None:
    pytest.skip("needs the extra: pip install '.[dynamo]'", allow_module_level=True)

#: A client that prints a line when it has an answer, and then waits.
client = """
import json, sys, time
from dynamo_llm import Runtime

with Runtime(engine="dynamo", cluster=json.loads(sys.argv[1]), pipeline="off") as runtime:
    print(runtime.complete([5, 6], model="position", max_tokens=1).result().token_ids, flush=True)
    time.sleep(60)
"""


def fetch(port: int, path: str, body: Any = None) -> str:
    """Returns the answer of a system server; ``body`` is posted as JSON."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        return str(response.read().decode())


def test_routes_and_metrics_of_a_worker(new_cluster: NewCluster) -> None:
    """A control call loads a LoRA adapter, which becomes a model; Dynamo's metrics include the engine's."""
    mine = new_cluster("file-tcp-zmq")
    port = free_port()
    worker = {"model": {"name": "own"}, "engine_routes": ["load_adapter", "unload_adapter"]}
    serve(mine, 7, worker, DYN_SYSTEM_PORT=str(port))
    assert mine.frontend.is_alive
    wait_until(lambda: listed(mine) == ["lawyer", "own", "poet"])
    loaded = json.loads(fetch(port, "/engine/load_adapter", {"adapter": "painter"}))
    assert loaded == {"status": "ok", "result": ["poet", "lawyer", "painter"]}
    wait_until(lambda: listed(mine) == ["lawyer", "own", "painter", "poet"])
    again = json.loads(fetch(port, "/engine/load_adapter", {"adapter": "painter"}))
    assert again["status"] == "error" and "loaded already" in again["message"]
    with Runtime(engine="dynamo", cluster=mine.settings, pipeline="off") as runtime:
        wait_until(lambda: len(runtime.models()) == 4)
        assert runtime.complete([5, 6], model="painter", max_tokens=1).result().token_ids == [102]
        fetch(port, "/engine/unload_adapter", {"adapter": "painter"})
        wait_until(lambda: len(runtime.models()) == 3)
    metrics = fetch(port, "/metrics")
    assert "dynamo_llm_requests_total{" in metrics and "dynamo_component_requests_total{" in metrics


def test_metrics_of_a_client(new_cluster: NewCluster) -> None:
    """A client's system server has the metrics of Dynamo's router in the process."""
    mine = new_cluster("file-tcp-zmq")
    position_worker(mine)
    port = free_port()
    command = [sys.executable, "-c", client, json.dumps({**mine.settings, "router": "kv"})]
    process = mine.run("client", command, {"DYN_SYSTEM_PORT": str(port)})
    mine.wait(lambda: "[102]" in process.log)
    metrics = fetch(port, "/metrics")
    assert "dynamo_component_router_input_sequence_tokens_count{" in metrics, metrics


@pytest.mark.parametrize(
    ("routes", "message"),
    [
        (["load_adapter"], '"engine_routes" .* requires Dynamo\'s system server; .* DYN_SYSTEM_PORT'),
        ([""], '"engine_routes" .* array of non-empty strings'),
    ],
)
def test_mistakes(tmp_path: Path, routes: list[str], message: str) -> None:
    """Each error says what is missing."""
    options = {
        "cluster": {"discovery": "file", "path": str(tmp_path)},
        "endpoint": "a.b.c",
        "runtime": {"engine": "test_worker_card:AdapterEngine", **python_path},
        "engine_routes": routes,
    }
    with pytest.raises(InvalidConfigError, match=message):
        Runtime(engine="dynamo_llm.runtime.cluster.worker.engine:WorkerEngine", options=options)
