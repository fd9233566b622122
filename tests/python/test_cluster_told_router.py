# SPDX-License-Identifier: Apache-2.0
"""Routers without a cluster, which are told of their workers: no servers, no other processes."""

import asyncio
import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import compile_c, dynamo_config, run, tests_dir
from dynamo_llm import (
    InvalidArgumentError,
    InvalidConfigError,
    InvalidHandleError,
    InvalidRequestError,
    KvPublisher,
    ModelNotFoundError,
    NotSupportedError,
    Router,
    UnavailableError,
    paths,
)
from dynamo_llm.runtime.cluster import connection

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("dynamo") is None, reason="NVIDIA Dynamo is not installed"
)

prompt = list(range(1, 65))
largest = 2**64 - 1


def told(id: int, **more: Any) -> dict[str, Any]:
    """A worker, as the router is told of it; nothing listens at its addresses."""
    return {
        "worker_id": id,
        "endpoint": f"http://w{id}:1",
        "kv_events_endpoint": "tcp://127.0.0.1:1",
        "total_kv_blocks": 1000,
        "max_num_batched_tokens": 2048,
        **more,
    }


@pytest.fixture
def router() -> Iterator[Router]:
    workers = [told(1), told(largest)]
    with Router(kv_block_size=16, workers=workers, model=str(paths.demo_model_dir())) as router:
        yield router


def chosen(router: Router, *words: Any, **more: Any) -> int:
    worker = router.select(*words, **more).worker
    assert worker is not None
    return worker.id


def load(router: Router, id: int, **more: Any) -> tuple[int, int, int]:
    (row,) = [row for row in router.loads(**more) if row["worker_id"] == id]
    return row["active_requests"], row["potential_prefill_tokens"], row["potential_decode_blocks"]


def test_a_request_is_chosen_for_booked_and_freed(router: Router) -> None:
    selection = router.select(prompt, workers=[largest])
    assert selection.worker is not None
    assert (selection.worker.id, selection.worker.dp_rank) == (largest, 0)
    assert selection.worker.address == f"http://w{largest}:1"
    assert selection.prefill_worker is None
    assert selection.token_ids == prompt
    assert load(router, largest) == (0, 0, 0)  # only chosen
    router.reserve("r", selection)
    assert load(router, largest) == (1, 64, 4)
    assert load(router, 1) == (0, 0, 0)
    assert chosen(router, list(range(100, 164))) == 1
    router.prefill_complete("r")
    assert load(router, largest) == (1, 0, 4)
    router.output_block("r")
    assert load(router, largest) == (1, 0, 5)
    router.output_block("r", 0.5)
    assert load(router, largest)[2] < 5
    router.free("r")
    assert load(router, largest) == (0, 0, 0)


def test_choosing_may_book_at_once(router: Router) -> None:
    first = chosen(router, prompt, request_id="a")
    second = chosen(router, list(range(100, 164)), request_id="b")
    assert {first, second} == {1, largest}
    assert [load(router, id) for id in (1, largest)] == [(1, 64, 4), (1, 64, 4)]
    with pytest.raises(InvalidArgumentError, match='the request "a" is booked already'):
        router.select(prompt, request_id="a")
    router.free("a")
    router.free("b")


def test_what_is_not_booked_is_named(router: Router) -> None:
    for call in (router.free, router.prefill_complete, router.output_block):
        with pytest.raises(InvalidArgumentError, match='no request "nobody" is booked'):
            call("nobody")
    with pytest.raises(InvalidArgumentError, match="decay must be from 0 to 1"):
        router.output_block("nobody", 2)


def test_who_cannot_be_chosen_is_named(router: Router) -> None:
    with pytest.raises(UnavailableError, match=rf"may be chosen \(7, 9\) is there; there are: 1, {largest}"):
        router.select(prompt, workers=[7, 9])
    with pytest.raises(UnavailableError, match="marked with gpu=x is there"):
        router.select(prompt, constraints={"required_taints": ["gpu=x"]})
    router.upsert_worker(told(5, taints=["gpu=x"]))
    assert chosen(router, prompt, constraints={"required_taints": ["gpu=x"]}) == 5
    router.delete_worker(5)
    with pytest.raises(InvalidArgumentError, match="worker 5 not found"):
        router.delete_worker(5)
    with pytest.raises(
        InvalidRequestError, match=r'"constraints\.required_taints" must be an array of strings'
    ):
        router.select(prompt, constraints={"required_taints": [1]})
    with pytest.raises(ValueError, match="workers is empty"):
        router.select(prompt, workers=[])
    with pytest.raises(InvalidArgumentError, match="ids of workers are integers from 0"):
        router.select(prompt, workers=[-1])
    with pytest.raises(InvalidArgumentError, match="token ids are integers from 0"):
        router.select([-1])


def test_workers_are_checked(router: Router) -> None:
    with pytest.raises(
        InvalidArgumentError, match='unknown key "endpont" of a worker; did you mean "endpoint"'
    ):
        router.upsert_worker({"worker_id": 3, "endpont": "x"})
    with pytest.raises(
        InvalidArgumentError, match="the worker 3 cannot be chosen: endpoint is required; kv_ev"
    ):
        router.upsert_worker({"worker_id": 3})
    with pytest.raises(
        InvalidArgumentError, match='the keys of "kv_events_endpoints" of a worker must be ranks'
    ):
        router.upsert_worker(told(3, kv_events_endpoints={"x": "tcp://127.0.0.1:1"}))
    with pytest.raises(NotSupportedError, match='the other one is "disaggregated"'):
        router.upsert_worker(told(3, phase="prefill"))
    assert [worker["worker_id"] for worker in router.workers()] == [1, largest]
    assert router.workers()[0]["address"] == "http://w1:1"
    ranks = {"0": "tcp://127.0.0.1:1", "1": "tcp://127.0.0.1:2"}
    router.upsert_worker(told(3, kv_events_endpoints=ranks, data_parallel_size=2))
    rows = [row for row in router.overlaps(prompt) if row["worker_id"] == 3]
    assert [row["dp_rank"] for row in rows] == [0, 1]


def test_bodies_become_tokens_by_the_models_template(router: Router) -> None:
    body = {"messages": [{"role": "user", "content": "What is a KV cache?"}]}
    assert router.select(body).token_ids[0] == 1
    assert router.select(json.dumps(body)).token_ids == router.select(body).token_ids
    assert len(router.select({"prompt": "What is a KV cache?"}).token_ids) == 6
    assert router.select({"prompt": [5, 6, 7]}).token_ids == [5, 6, 7]
    with pytest.raises(InvalidRequestError, match="a router takes the body of a chat"):
        router.select({"input": "x"})
    with pytest.raises(
        InvalidRequestError, match=r'"nvext.agent_hints.priority" of the request must be an int'
    ):
        router.select({**body, "nvext": {"agent_hints": {"priority": "x"}}})
    with pytest.raises(UnavailableError, match="marked with zone=b is there"):
        router.select({**body, "nvext": {"routing_constraints": {"required_taints": ["zone=b"]}}})
    with (
        Router(kv_block_size=16, workers=[told(1)]) as bare,
        pytest.raises(NotSupportedError, match='needs "model" in its configuration'),
    ):
        bare.select(body)


def test_prompts_and_answers_by_different_workers() -> None:
    workers = [told(1), told(2, phase="prefill"), told(3, phase="prefill")]
    with Router(kv_block_size=16, mode="disaggregated", workers=workers) as router:
        selection = router.select(prompt, request_id="r")
        assert selection.worker is not None
        assert selection.prefill_worker is not None
        assert selection.worker.id == 1
        prefill = selection.prefill_worker.id
        assert load(router, prefill, phase="prefill") == (1, 64, 4)
        other = router.select(prompt[:32], phase="prefill").prefill_worker
        assert other is not None
        assert other.id == 5 - prefill
        router.prefill_complete("r")
        assert load(router, prefill, phase="prefill") == (0, 0, 0)
        assert load(router, 1, phase="decode")[0] == 1
        router.free("r")
        assert load(router, 1, phase="decode") == (0, 0, 0)
        assert router.select(prompt, phase="decode").prefill_worker is None
        assert [worker["phase"] for worker in router.workers()] == ["decode", "prefill", "prefill"]


def test_many_threads_ask_at_once(router: Router) -> None:
    def one(number: int) -> None:
        tokens = list(range(number * 100, number * 100 + 64))
        router.select(tokens, request_id=str(number))
        router.prefill_complete(str(number))
        router.free(str(number))

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(one, range(200)))
    assert [load(router, id) for id in (1, largest)] == [(0, 0, 0), (0, 0, 0)]


def test_from_a_coroutine() -> None:
    async def main() -> int:
        router = await Router.open(kv_block_size=16, workers=[told(4)])
        selection = await asyncio.to_thread(router.select, prompt)
        router.close()
        with pytest.raises(InvalidHandleError):
            router.loads()
        assert selection.worker is not None
        return selection.worker.id

    assert asyncio.run(main()) == 4


def test_a_router_that_does_not_start_leaves_the_cluster(tmp_path: Path) -> None:
    """Its connection would be the process's for ever."""
    before = list(connection._connections)
    cluster = {"discovery": "file", "path": str(tmp_path)}
    with pytest.raises(ModelNotFoundError):
        Router(endpoint="a.b", kv_block_size=16, cluster=cluster, model=str(tmp_path / "none"))
    assert list(connection._connections) == before


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"kv_blok_size": 16},
            'unknown key "kv_blok_size" in the configuration; did you mean "kv_block_size"?',
        ),
        ({}, '"kv_block_size" is missing: without "cluster" nobody says it'),
        ({"kv_block_size": 0}, '"kv_block_size" of the configuration must be'),
        ({"kv_block_size": 16, "endpoint": "a.b.c"}, '"endpoint" needs "cluster"'),
        ({"kv_block_size": 16, "mode": "x"}, '"mode" of the configuration must be'),
        ({"kv_block_size": 16, "options": {"x": 1}}, '"options.x" of the configuration is no setting'),
        ({"kv_block_size": 16, "workers": [1]}, '"workers" must be an array of objects'),
        ({"cluster": {}}, '"endpoint" is missing; it is like "dynamo.backend.generate"'),
        ({"cluster": {}, "endpoint": "x"}, 'the endpoint "x" must be namespace.component.endpoint'),
        ({"cluster": {}, "endpoint": "a.b", "workers": []}, '"workers" and "cluster" exclude each other'),
        (
            {"cluster": {}, "endpoint": "a.b", "mode": "disaggregated"},
            "go together, and one of them is missing",
        ),
        ({"cluster": {"discovry": "x"}, "endpoint": "a.b"}, '"cluster.discovry"'),
    ],
)
def test_configurations_are_checked(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfigError, match=re.escape(message)):
        Router(config)


def test_a_model_that_is_none() -> None:
    with pytest.raises(ModelNotFoundError, match=r"tokenizer\.json"):
        Router(kv_block_size=16, model="/nowhere")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"endpont": "a.b"}, 'unknown key "endpont" in the configuration; did you mean "endpoint"?'),
        ({"kv_block_size": 16}, '"endpoint" is missing'),
        ({"endpoint": "a.b"}, '"kv_block_size" must be tokens per block'),
        (
            {"endpoint": "a.b", "kv_block_size": 16, "data_parallel_rank": -1},
            '"data_parallel_rank" of the conf',
        ),
    ],
)
def test_configurations_of_publishers_are_checked(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfigError, match=re.escape(message)):
        KvPublisher(config)


def test_the_example_of_a_gateway(tmp_path: Path) -> None:
    flags = dynamo_config("--cflags", "--libs").split()
    source = tests_dir.parent / "examples" / "cluster" / "gateway.c"
    program = compile_c(source, tmp_path / "gateway", *flags)
    config = {"kv_block_size": 16, "workers": [told(1), told(2)], "model": str(paths.demo_model_dir())}
    environment = {"DYNAMO_LLM_PYTHON": sys.executable, "HOME": str(tmp_path)}
    result = run([program, json.dumps(config), "What is a KV cache?", "What is prefill?"], environment)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    pattern = r"request (\d): worker (\d) rank 0 has 0 blocks of \d+ tokens, at http://w\2:1"
    found = [re.fullmatch(pattern, line) for line in lines]
    assert [match and match[1] for match in found] == ["1", "2"], result.stdout
    assert {match and match[2] for match in found} == {"1", "2"}
    result = run([program, json.dumps({**config, "workers": []}), "a"], environment)
    assert (result.returncode, result.stdout) == (1, "")
    assert "gateway: DYNAMO_ERROR_UNAVAILABLE: no worker is there; there are: none" in result.stderr


@pytest.mark.parametrize("flags", [["-std=c++20"], ["-std=c++17", "-fno-exceptions"]])
def test_from_cpp(flags: list[str], tmp_path: Path) -> None:
    found = dynamo_config("--cflags", "--libs").split()
    support, program = tmp_path / "support.o", tmp_path / "test_cluster"
    commands = [
        ["gcc", "-c", tests_dir / "c" / "support.c", "-o", support, *found],
        ["g++", *flags, tests_dir / "cpp" / "test_cluster.cpp", support, "-o", program, "-pthread", *found],
    ]
    for command in commands:
        result = run(command)
        assert result.returncode == 0, result.stderr
    config = json.dumps({"kv_block_size": 16, "workers": [told(1), told(2)]})
    result = run([program, config], {"DYNAMO_LLM_PYTHON": sys.executable, "HOME": str(tmp_path)})
    assert result.returncode == 0, result.stdout + result.stderr
