# SPDX-License-Identifier: Apache-2.0
"""Dynamo's request traces, its audit log, of a client: the frontend in the process writes them."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from cluster_rig import NewCluster
from position_client import position_worker
from waiting import wait_until

if importlib.util.find_spec("dynamo") is None:
    pytest.skip("needs the extra: pip install '.[dynamo]'", allow_module_level=True)

#: A client that sends a chat once the frontend in the process serves the model.
client = """
import json, sys, time
from dynamo_llm import Runtime

with Runtime(engine="dynamo", cluster=json.loads(sys.argv[1])) as runtime:
    while not any(model.get("frontend") for model in runtime.models()):
        time.sleep(0.05)
    runtime.chat("What is a KV cache?", max_tokens=2).result()
    print("answered", flush=True)
    time.sleep(60)
"""


def test_what_a_trace_contains(new_cluster: NewCluster, tmp_path: Path) -> None:
    """It has the counts of the request, its worker, and the bodies."""
    mine = new_cluster("file-tcp-zmq")
    position_worker(mine)
    variables = {
        "DYN_REQUEST_TRACE_RECORDS": "request_end,request_payload",
        "DYN_REQUEST_TRACE_SINKS": "file",
        "DYN_REQUEST_TRACE_FILE_FORMAT": "jsonl",
        "DYN_REQUEST_TRACE_FILE_PATH": str(tmp_path / "trace.jsonl"),
        "DYN_REQUEST_TRACE_FILE_FLUSH_INTERVAL_MS": "100",
    }
    process = mine.run("client", [sys.executable, "-c", client, json.dumps(mine.settings)], variables)
    mine.wait(lambda: "answered" in process.log)

    def records() -> dict[str, str]:
        lines = [line for file in tmp_path.glob("trace*") for line in file.read_text().splitlines()]
        return {json.loads(line)["event"]["event_type"]: line for line in lines}

    found = wait_until(lambda: len(records()) == 2 and records())
    assert json.loads(found["request_end"])["event"]["request"]["output_tokens"] == 2
    assert "What is a KV cache?" in found["request_payload"]
