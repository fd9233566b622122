# SPDX-License-Identifier: Apache-2.0
"""Requests that Dynamo's frontend in this process answers, without Python. Their answers are those of the
library's own pipeline, and what the frontend cannot do comes to Python.
"""

import importlib.util
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from cluster_rig import Cluster
from cluster_rig.fixtures import NewCluster
from dynamo_llm import (
    ContextLengthError,
    EngineFailedError,
    InvalidRequestError,
    ModelNotFoundError,
    NotSupportedError,
    Runtime,
    UnavailableError,
    _core,
)
from waiting import wait_until

if importlib.util.find_spec("dynamo") is None:
    pytest.skip("needs the extra: pip install '.[dynamo]'", allow_module_level=True)

from cluster_worker import Worker
from port_owner import listening
from test_client import client, position_worker, said, tokens


def counted(runtime: Runtime) -> dict[str, int]:
    """Returns how many requests the frontend answered, and how many it handed over to Python."""
    found = re.findall(
        r'^dynamo_llm_frontend_requests_total\{result="(\w+)"\} (\d+)$', runtime.metrics(), re.M
    )
    return {result: int(count) for result, count in found}


def is_served(runtime: Runtime, **keys: Any) -> bool:
    """Sends a request; returns whether the frontend answered it: it knows a model later than Python does."""
    before = counted(runtime).get("answered", 0)
    try:
        runtime.complete([5], max_tokens=1, **keys).result()
    except (ModelNotFoundError, NotSupportedError, UnavailableError):
        return False
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
        {"prompt": "x", "max_tokens": 9, "top_p": 0.5, "frequency_penalty": 1},
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
        assert counted(runtime) == {**before, "handed_over": before["handed_over"] + 1}
        for more in (
            {"stop": ["END"]},
            {"min_tokens": 1},
            {"repetition_penalty": 0.001},
            {"prompt": [*range(5, 1500)]},  # longer than the context
        ):
            before = counted(runtime)
            with suppress(InvalidRequestError, ContextLengthError):
                runtime.request({"prompt": [5], "max_tokens": 2, **more}).result()
            assert counted(runtime) == before, more
    for keys in (
        {"pipeline": "off"},
        {"options": {"frontend": False}},
        {"templates": {"timeout_ms": 500}},
        {"tool_call_parser": "hermes"},
    ):
        with client(mine, **keys) as runtime:
            before = counted(runtime)
            assert tokens(runtime.complete([5], max_tokens=1)) == [101]
            assert counted(runtime) == before
            assert [model["frontend"] for model in runtime.models()] == [False]


def test_the_name_of_the_configuration(new_cluster: NewCluster) -> None:
    """It means the configured model, even if the cluster has another one of that name."""
    mine = new_cluster()
    position_worker(mine, "--name=x", "--component=x")
    wanted = position_worker(mine, "--name=y", "--component=y")
    with served(mine, model="y", name="x") as runtime:
        count = len(said(wanted, "request"))
        before = counted(runtime)["answered"]
        runtime.complete([5, 6], model="x", max_tokens=1).result()
        assert counted(runtime)["answered"] == before + 1
        assert len(said(wanted, "request")) == count + 1


def test_two_runtimes(new_cluster: NewCluster) -> None:
    """Both use the server of their cluster; the end of one does not touch the other."""
    mine = new_cluster()
    position_worker(mine)
    with served(mine) as first:
        with served(mine) as second:
            assert tokens(second.complete([5], max_tokens=2)) == [101, 102]
        before = counted(first)["answered"]
        assert tokens(first.complete([5], max_tokens=2)) == [101, 102]
        assert counted(first)["answered"] == before + 1


def test_a_model_without_chats(new_cluster: NewCluster) -> None:
    """Only Dynamo's frontend serves it; its errors are the frontend's."""
    mine = new_cluster()
    position_worker(mine, "--completions", "--name=old")
    with client(mine) as runtime:
        wait_until(lambda: is_served(runtime, model="old"))
        (model,) = runtime.models()
        assert (model["capabilities"], model["frontend"]) == (["completion"], True)
        assert tokens(runtime.complete([5], model="old", max_tokens=3)) == [101, 102, 103]
        for what, keys in (
            (r'the request needs "prompt"', {"messages": [{"role": "user", "content": "hi"}]}),
            (r'"n" of the request is 2', {"prompt": [5], "max_tokens": 1, "n": 2}),
            (r'cannot get "logprobs"', {"prompt": [5], "max_tokens": 1, "logprobs": 1}),
            (r'needs "max_tokens"', {"prompt": [5]}),
        ):
            with pytest.raises(NotSupportedError, match=r'"old" of the cluster.*' + what):
                runtime.request({"model": "old", **keys}).result()
        with pytest.raises(EngineFailedError, match="Internal server error"):
            runtime.complete([1, 6], model="old", max_tokens=2).result()


def test_embeddings(new_cluster: NewCluster, tmp_path: Path) -> None:
    """The vectors of a worker, through Dynamo's frontend, are those of its model in the process."""
    mine = new_cluster()
    local = {"engine": "mistralrs", "model": str(tiny_models.embedder(tmp_path / "embedder"))}
    model = {"name": "vectors", "types": ["embeddings"]}
    with Worker(mine, local, model=model), Runtime(local) as here, client(mine) as runtime:
        wait_until(lambda: [each["id"] for each in runtime.models()] == ["vectors"])
        for texts in ("Hi", ["Hi", "there"]):
            theirs = runtime.embed(texts, model="vectors").result().json()
            expected = here.embed(texts).result().json()
            assert len(theirs["data"]) == len(expected["data"])
            for one, other in zip(theirs["data"], expected["data"], strict=True):
                assert one["embedding"] == pytest.approx(other["embedding"], abs=1e-5)
            assert theirs["usage"]["prompt_tokens"] == expected["usage"]["prompt_tokens"]


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
        assert counted(runtime) == {**before, "answered": before["answered"] + 1}


#: Connects to ports of the loopback interface, as another user if possible; prints what happens.
_strange = """
import os, socket, sys
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for port in map(int, sys.argv[2:]):
    with socket.socket() as plain:
        plain.settimeout(2)
        try:
            plain.connect(("127.0.0.1", port))
            print("connected")
        except OSError as error:
            print(type(error).__name__)
with socket.socket() as same:
    same.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        same.bind(("127.9.9.9", int(sys.argv[1])))
        print("bound")
    except OSError as error:
        print(type(error).__name__)
"""


def test_only_this_process_can_connect(new_cluster: NewCluster) -> None:
    """The servers listen on the loopback interface, the kernel drops what others send them, and other users
    cannot bind the port from which connections are let in.
    """
    mine = new_cluster()
    position_worker(mine)
    before = {*listening()}
    with served(mine) as runtime:
        new = {*listening()} - before
        assert {address for address, _ in new} == {"127.0.0.1"}, new
        ports = [str(port) for _, port in sorted(new)]
        command = [sys.executable, "-c", _strange, str(_core.frontend_source_port()), *ports]
        said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split()
        # Two HTTP servers; the others are Dynamo's, for answers of workers.
        assert said[:-1].count("TimeoutError") == 2, (ports, said)
        assert said[-1] == ("OSError" if os.getuid() == 0 else "bound")
        assert is_served(runtime)
