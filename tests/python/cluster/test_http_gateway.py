# SPDX-License-Identifier: Apache-2.0
"""``dynamo-llm serve --http --engine dynamo``: an HTTP gateway into a cluster."""

import importlib.util
import json

import pytest
from cluster_rig import NewCluster
from served import Served, read_until, serve
from waiting import wait_until

if importlib.util.find_spec("dynamo") is None:
    pytest.skip("needs the extra: pip install '.[dynamo]'", allow_module_level=True)
pytest.importorskip("uvicorn", reason="needs the packages of the extra serve")


def test_gateway(new_cluster: NewCluster) -> None:
    """Answers of a worker, over HTTP: whole, streamed, and cancelled when the client disconnects. The server
    is healthy while the cluster has a worker.
    """
    cluster = new_cluster()
    worker = cluster.add_worker(delay=0.01)
    options = ["--cluster", json.dumps(cluster.settings)]
    with serve({"engine": "dynamo"}, *options) as served:
        wait_until(lambda: served.ask("GET", "/health").status == 200)
        listed = served.ask("GET", "/v1/models").json()["data"]
        assert [model["id"] for model in listed] == [cluster.model]
        limits = {"model": cluster.model, "max_tokens": 5, "ignore_eos": True}
        reply = served.chat("What is a KV cache?", **limits)
        assert reply.status == 200, reply.text
        assert reply.json()["usage"]["completion_tokens"] == 5
        streamed = served.chat("What is a KV cache?", **limits, stream=True)
        assert streamed.text.endswith("data: [DONE]\n\n")
        check_disconnect(served, cluster.model)
        worker.kill()
        wait_until(lambda: served.ask("GET", "/health").status == 503)
        assert served.chat("x", **limits).status in (404, 503)


def check_disconnect(served: Served, model: str) -> None:
    """The worker's request ends with the client's connection."""
    with served.connect() as connection:
        served.send_chat(connection, "x", model=model, max_tokens=900, ignore_eos=True)
        read_until(connection, "data: ")
    wait_until(lambda: served.metric('dynamo_llm_requests_total{status="cancelled"}') == 1)
