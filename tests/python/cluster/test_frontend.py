# SPDX-License-Identifier: Apache-2.0
"""Requests that Dynamo's frontend in this process answers, without Python. Their answers are those of the
library's own pipeline, and what the frontend cannot do comes to Python.
"""

import importlib.util
import os
import re
import subprocess
import urllib.error
import urllib.request
from typing import Any

import pytest
from cluster_rig import Cluster
from cluster_rig.fixtures import NewCluster
from dynamo_llm import EngineFailedError, ModelNotFoundError, Runtime
from waiting import wait_until

if importlib.util.find_spec("dynamo") is None:
    pytest.skip("needs the extra: pip install '.[dynamo]'", allow_module_level=True)

from test_client import client, position_worker, said, tokens


def counted(runtime: Runtime) -> dict[str, int]:
    """Returns how many requests the frontend answered, and how many it handed over to Python."""
    found = re.findall(
        r'^dynamo_llm_frontend_requests_total\{result="(\w+)"\} (\d+)$', runtime.metrics(), re.M
    )
    return {result: int(count) for result, count in found}


def is_served(runtime: Runtime) -> bool:
    """Sends a request; returns whether the frontend answered it: it knows a model later than Python does."""
    before = counted(runtime).get("answered", 0)
    runtime.complete([5], max_tokens=1).result()
    return counted(runtime).get("answered", 0) > before


def served(cluster: Cluster, **keys: Any) -> Runtime:
    """Returns a runtime whose requests the frontend answers."""
    runtime = client(cluster, **keys)
    wait_until(lambda: is_served(runtime))
    return runtime


def test_same_answers(new_cluster: NewCluster) -> None:
    """Text, ids, finish reason, and counts, streamed and not: log-probs are what only Python does."""
    mine = new_cluster()
    position_worker(mine)
    bodies: list[dict[str, Any]] = [
        {"prompt": "What is a KV cache?", "max_tokens": 60},
        {"prompt": [5, 6, 7], "max_tokens": 5},
        {"prompt": "x", "max_tokens": 9, "stop": [" "]},
        {"messages": [{"role": "user", "content": "What is a KV cache?"}], "max_tokens": 30},
        {
            "messages": [
                {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
                {"role": "user", "content": "é 漢 😀"},
                {"role": "assistant", "content": "a"},
                {"role": "user", "content": "b"},
            ],
            "max_completion_tokens": 7,
            "temperature": 0.5,
            "seed": 3,
        },
    ]
    with served(mine) as runtime:
        for body in bodies:
            for stream in (True, False):
                keys = {"stream": stream, **({"stream_options": {"include_usage": True}} if stream else {})}
                before = counted(runtime)["answered"]
                ours = list(runtime.request({**body, **keys}))
                assert counted(runtime)["answered"] == before + 1, body
                extra = {"logprobs": True} if "messages" in body else {"logprobs": 1}
                theirs = list(runtime.request({**body, **keys, **extra}))
                assert counted(runtime)["answered"] == before + 1, body
                assert "".join(r.text for r in ours) == "".join(r.text for r in theirs), body
                assert tokens(ours) == tokens(theirs), body
                assert str(ours[-1].usage) == str(theirs[-1].usage), body
                reasons = [[r.finish_reason for r in some if r.finish_reason] for some in (ours, theirs)]
                assert reasons[0] == reasons[1], body


def test_prompts_reach_the_worker_alike(new_cluster: NewCluster) -> None:
    """The chat template and the tokenizer of Dynamo give the tokens of the library's."""
    mine = new_cluster()
    worker = position_worker(mine)
    with served(mine) as runtime:
        count = len(said(worker, "request"))
        for more in ({}, {"logprobs": True}):
            runtime.chat("Hello, \n wörld", max_tokens=1, **more).result()
        wait_until(lambda: len(said(worker, "request")) == count + 2)
        first, second = (request["token_ids"] for request in said(worker, "request")[count:])
        assert first == second and len(first) > 3


def test_what_travels_beside_a_request(new_cluster: NewCluster) -> None:
    """The digits of the request's id, and the time until its deadline."""
    mine = new_cluster()
    worker = position_worker(mine)
    with served(mine) as runtime:
        request = runtime.complete([5, 6], max_tokens=1, timeout=60)
        request.result()
        digits = request.id.removeprefix("req-")
        assert said(worker, "id")[-1].replace("-", "").endswith(digits)
        assert 0 < float(said(worker, "metadata")[-1]["dynamo-llm-deadline-seconds"]) <= 60


def test_python_answers_the_rest(new_cluster: NewCluster) -> None:
    """Requests that the frontend would answer otherwise, or not at all."""
    mine = new_cluster()
    position_worker(mine)
    with served(mine) as runtime:
        before = counted(runtime)
        answer = runtime.complete([5], max_tokens=2, n=2, stream=False).result().json()
        assert [choice["index"] for choice in answer["choices"]] == [0, 1]
        with pytest.raises(ModelNotFoundError, match='did you mean "position"'):
            runtime.complete([5], model="positon", max_tokens=2).result()
        assert counted(runtime) == before
        with pytest.raises(EngineFailedError, match="no"):  # the server would hide the message
            runtime.complete([1, 6], max_tokens=2).result()
        assert counted(runtime) == {"answered": before["answered"], "handed_over": before["handed_over"] + 1}
    with client(mine, pipeline="off") as runtime:
        assert tokens(runtime.complete([5], max_tokens=1)) == [101]
        assert counted(runtime) == {}


def test_a_slow_reader_loses_nothing(new_cluster: NewCluster) -> None:
    """A stream of eight tokens, and an answer of 900, which is read late."""
    mine = new_cluster()
    position_worker(mine, "--delay=0")
    with served(mine, stream={"capacity": 8}) as runtime:
        request = runtime.complete([5], max_tokens=900)
        first = next(iter(request))
        wait_until(lambda: re.search(r"^dynamo_llm_streams_full_total\S* [1-9]", runtime.metrics(), re.M))
        assert [*first.token_ids, *tokens(request)] == [101 + i for i in range(900)]


def test_a_worker_dies(new_cluster: NewCluster) -> None:
    """Another one goes on: no token is lost or doubled."""
    mine = new_cluster()
    workers = [position_worker(mine, "--delay=0.01") for _ in range(2)]
    with served(mine) as runtime:

        def have_both_answered() -> bool:
            runtime.complete([5], max_tokens=1).result()
            return all(said(worker, "request") for worker in workers)

        wait_until(have_both_answered)
        request = runtime.complete([5, 6], max_tokens=150)
        found = list(next(iter(request)).token_ids)
        (busy,) = [w for w in workers if said(w, "request")[-1]["token_ids"] == [5, 6]]
        before = counted(runtime)
        busy.kill()
        found += tokens(request)
        assert found == [102 + i for i in range(150)]
        assert counted(runtime) == before


def test_only_this_process_can_use_it(new_cluster: NewCluster) -> None:
    """The servers listen on the loopback interface, and none of Dynamo's well-known paths is there."""
    mine = new_cluster()
    position_worker(mine)
    with served(mine):
        lines = subprocess.run(["ss", "-ltnpH"], check=True, capture_output=True, text=True).stdout
        mine_only = [line.split()[3] for line in lines.splitlines() if f"pid={os.getpid()}," in line]
        assert mine_only and all(address.startswith("127.0.0.1:") for address in mine_only), mine_only
        statuses = set()
        for address in mine_only:
            for path in (
                *("/v1/chat/completions", "/v1/completions", "/v1/models", "/v1/embeddings", "/v1/responses"),
                *(
                    "/health",
                    "/live",
                    "/metrics",
                    "/busy_threshold",
                    "/v1/messages",
                    "/v1/files",
                    "/v1/batches",
                ),
            ):
                for method in ("GET", "POST"):
                    request = urllib.request.Request(f"http://{address}{path}", b"{}", {}, method=method)
                    try:
                        with urllib.request.urlopen(request, timeout=5) as answer:
                            statuses.add((method, path, answer.status))
                    except urllib.error.HTTPError as error:
                        if error.code != 404:
                            statuses.add((method, path, error.code))
                    except (OSError, ValueError):
                        pass  # not an HTTP server
        assert statuses == set()
