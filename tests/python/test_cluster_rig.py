# SPDX-License-Identifier: Apache-2.0
"""The clusters of other tests: Dynamo's frontend and worker over each combination; what dies, and returns."""

import json
import urllib.request
from typing import Any

from cluster_rig import Cluster
from cluster_rig import server as servers

#: The worker says the tokens 1, 2, 3, ...; the demo model's tokenizer makes these of the first eight.
eight = '!"#$'


def chat(cluster: Cluster, **more: Any) -> list[dict[str, Any]]:
    """An answer of the frontend: its chunks, one if it is not streamed."""
    body = {"model": cluster.model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, **more}
    request = urllib.request.Request(f"{cluster.url}/chat/completions", json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=servers.patience) as answer:
        text = answer.read().decode()
    if not more.get("stream"):
        return [json.loads(text)]
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    assert events.pop() == "[DONE]", text
    return [json.loads(event) for event in events]


def test_chat(cluster: Cluster) -> None:
    """Whole."""
    (answer,) = chat(cluster)
    assert answer["choices"][0]["message"]["content"] == eight
    assert answer["choices"][0]["finish_reason"] == "length"


def test_chat_streamed(cluster: Cluster) -> None:
    """Part by part."""
    parts = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chat(cluster, stream=True)]
    assert "".join(parts) == eight and len(parts) > 1
