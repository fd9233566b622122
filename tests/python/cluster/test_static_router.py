# SPDX-License-Identifier: Apache-2.0
"""Static routers, whose caller registers the workers: no servers, no other processes."""

import asyncio
import importlib.util
import json
import os
import re
import shutil
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
from waiting import wait_until
from zmq_publisher import ZmqPublisher

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("dynamo") is None, reason="NVIDIA Dynamo is not installed"
)

prompt = list(range(1, 65))
largest = 2**64 - 1


def described(id: int, **more: Any) -> dict[str, Any]:
    """Returns a worker's description; nothing listens at its addresses."""
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
    workers = [described(1), described(largest)]
    with Router(kv_block_size=16, workers=workers, model=str(paths.demo_model_dir())) as router:
        yield router


def selected(router: Router, *words: Any, **more: Any) -> int:
    worker = router.select(*words, **more).worker
    assert worker is not None
    return worker.worker_id


def load(router: Router, id: int, **more: Any) -> tuple[int, int, int]:
    (row,) = [row for row in router.loads(**more) if row["worker_id"] == id]
    return row["active_requests"], row["potential_prefill_tokens"], row["potential_decode_blocks"]


def test_select_reserve_release(router: Router) -> None:
    selection = router.select(prompt, worker_ids=[largest])
    assert selection.worker is not None
    assert (selection.worker.worker_id, selection.worker.data_parallel_rank) == (largest, 0)
    assert selection.worker.address == f"http://w{largest}:1"
    assert selection.prefill_worker is None
    assert selection.token_ids == prompt
    assert load(router, largest) == (0, 0, 0)  # not reserved
    router.reserve("r", selection)
    assert load(router, largest) == (1, 64, 4)
    assert load(router, 1) == (0, 0, 0)
    assert selected(router, list(range(100, 164))) == 1
    router.prefill_complete("r")
    assert load(router, largest) == (1, 0, 4)
    router.output_block("r")
    assert load(router, largest) == (1, 0, 5)
    router.output_block("r", 0.5)
    assert load(router, largest)[2] < 5
    router.free("r")
    assert load(router, largest) == (0, 0, 0)


def test_selection_can_reserve(router: Router) -> None:
    first = selected(router, prompt, request_id="a")
    second = selected(router, list(range(100, 164)), request_id="b")
    assert {first, second} == {1, largest}
    assert [load(router, id) for id in (1, largest)] == [(1, 64, 4), (1, 64, 4)]
    with pytest.raises(InvalidArgumentError, match='the request "a" is already reserved'):
        router.select(prompt, request_id="a")
    router.free("a")
    router.free("b")


def test_requests_without_a_reservation_are_named(router: Router) -> None:
    for call in (router.free, router.prefill_complete, router.output_block):
        with pytest.raises(InvalidArgumentError, match='no request "nobody" is reserved'):
            call("nobody")
    with pytest.raises(InvalidArgumentError, match="decay must be a number from 0 to 1, not 2"):
        router.output_block("nobody", 2)


def test_workers_that_cannot_be_selected_are_named(router: Router) -> None:
    with pytest.raises(
        UnavailableError, match=rf"among the allowed ones \(7, 9\) is available; live workers: 1, {largest}"
    ):
        router.select(prompt, worker_ids=[7, 9])
    with pytest.raises(UnavailableError, match="with the taints gpu=x is available"):
        router.select(prompt, constraints={"required_taints": ["gpu=x"]})
    router.upsert_worker(described(5, taints=["gpu=x"]))
    assert selected(router, prompt, constraints={"required_taints": ["gpu=x"]}) == 5
    router.delete_worker(5)
    with pytest.raises(InvalidArgumentError, match="worker 5 not found"):
        router.delete_worker(5)
    with pytest.raises(
        InvalidRequestError, match=r'"constraints\.required_taints" must be an array of strings'
    ):
        router.select(prompt, constraints={"required_taints": [1]})
    with pytest.raises(ValueError, match="worker_ids is empty"):
        router.select(prompt, worker_ids=[])
    with pytest.raises(InvalidArgumentError, match="worker_ids must be integers from 0"):
        router.select(prompt, worker_ids=[-1])
    with pytest.raises(InvalidArgumentError, match="token ids must be integers from 0"):
        router.select([-1])


def test_workers_are_checked(router: Router) -> None:
    with pytest.raises(
        InvalidArgumentError, match='unknown key "endpont" of a worker; did you mean "endpoint"'
    ):
        router.upsert_worker({"worker_id": 3, "endpont": "x"})
    with pytest.raises(
        InvalidArgumentError, match="the worker 3 cannot be selected: endpoint is required; kv_ev"
    ):
        router.upsert_worker({"worker_id": 3})
    with pytest.raises(
        InvalidArgumentError, match='the keys of "kv_events_endpoints" of a worker must be ranks'
    ):
        router.upsert_worker(described(3, kv_events_endpoints={"x": "tcp://127.0.0.1:1"}))
    with pytest.raises(NotSupportedError, match='set it to "disaggregated" for separate prefill workers'):
        router.upsert_worker(described(3, phase="prefill"))
    assert [worker["worker_id"] for worker in router.workers()] == [1, largest]
    assert router.workers()[0]["address"] == "http://w1:1"
    ranks = {"0": "tcp://127.0.0.1:1", "1": "tcp://127.0.0.1:2"}
    router.upsert_worker(described(3, kv_events_endpoints=ranks, data_parallel_size=2))
    rows = [row for row in router.overlaps(prompt) if row["worker_id"] == 3]
    assert [row["data_parallel_rank"] for row in rows] == [0, 1]


def test_bodies_are_tokenized_by_the_models_template(router: Router) -> None:
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
    with pytest.raises(UnavailableError, match="with the taints zone=b is available"):
        router.select({**body, "nvext": {"routing_constraints": {"required_taints": ["zone=b"]}}})
    with (
        Router(kv_block_size=16, workers=[described(1)]) as bare,
        pytest.raises(NotSupportedError, match='requires "model" in its configuration'),
    ):
        bare.select(body)


def test_disaggregated_workers() -> None:
    workers = [described(1), described(2, phase="prefill"), described(3, phase="prefill")]
    with Router(kv_block_size=16, mode="disaggregated", workers=workers) as router:
        selection = router.select(prompt, request_id="r")
        assert selection.worker is not None
        assert selection.prefill_worker is not None
        assert selection.worker.worker_id == 1
        prefill = selection.prefill_worker.worker_id
        assert load(router, prefill, phase="prefill") == (1, 64, 4)
        other = router.select(prompt[:32], phase="prefill").prefill_worker
        assert other is not None
        assert other.worker_id == 5 - prefill
        router.prefill_complete("r")
        assert load(router, prefill, phase="prefill") == (0, 0, 0)
        assert load(router, 1, phase="decode")[0] == 1
        router.free("r")
        assert load(router, 1, phase="decode") == (0, 0, 0)
        assert router.select(prompt, phase="decode").prefill_worker is None
        assert [worker["phase"] for worker in router.workers()] == ["decode", "prefill", "prefill"]


@pytest.mark.parametrize("mode", ["aggregated", "disaggregated"])
def test_selections_know_the_overlap(mode: str) -> None:
    """It is that of the selected rank; other ranks of the worker have other blocks."""
    publishers = [ZmqPublisher() for _ in range(3)]
    endpoints = [publisher.endpoint for publisher in publishers]
    two_ranks = described(
        1, data_parallel_size=2, kv_events_endpoints=dict(zip("01", endpoints, strict=False))
    )
    del two_ranks["kv_events_endpoint"]
    phases: dict[int, Any] = {1: "all", 2: "all"}
    one_rank = described(2, kv_events_endpoint=endpoints[2])
    if mode == "disaggregated":
        phases = {1: "decode", 2: "prefill"}
        one_rank["phase"] = "prefill"
    known = [(1, 0, 1), (1, 1, 4), (2, 0, 2)]
    try:
        with Router(kv_block_size=16, mode=mode, workers=[two_ranks, one_rank]) as router:

            def overlaps() -> list[tuple[int, int, int]]:
                rows = [row for phase in set(phases.values()) for row in router.overlaps(prompt, phase=phase)]
                return sorted(
                    (row["worker_id"], row["data_parallel_rank"], row["device_blocks"]) for row in rows
                )

            for publisher, (_, rank, blocks) in zip(publishers, known, strict=True):
                publisher.wait_for_subscriber()
                publisher.stored(prompt[: 16 * blocks], 16, rank)
            wait_until(lambda: overlaps() == known, lambda: str(overlaps()))
            for id, phase in phases.items():
                for request_id in (None, f"request-{id}"):
                    selection = router.select(prompt, phase=phase, worker_ids=[id], request_id=request_id)
                    worker = selection.worker or selection.prefill_worker
                    assert worker is not None
                    found = (worker.worker_id, worker.data_parallel_rank, worker.overlap_blocks)
                    assert found in known
                    if phase == "all":  # a decode worker is selected without regard to its blocks
                        assert found in {(1, 1, 4), (2, 0, 2)}
    finally:
        for publisher in publishers:
            publisher.close()


def test_many_threads_select_at_once(router: Router) -> None:
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
        router = await Router.open(kv_block_size=16, workers=[described(4)])
        selection = await asyncio.to_thread(router.select, prompt)
        router.close()
        with pytest.raises(InvalidHandleError):
            router.loads()
        assert selection.worker is not None
        return selection.worker.worker_id

    assert asyncio.run(main()) == 4


def test_a_router_that_does_not_start_leaves_the_cluster(tmp_path: Path) -> None:
    """The process would keep its connection forever."""
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
        ({}, '"kv_block_size" of the configuration is missing; a router without "cluster" requires it'),
        ({"kv_block_size": 0}, '"kv_block_size" of the configuration must be'),
        ({"kv_block_size": 16, "endpoint": "a.b.c"}, '"endpoint" of the configuration requires "cluster"'),
        ({"kv_block_size": 16, "mode": "x"}, '"mode" of the configuration must be'),
        (
            {"kv_block_size": 16, "options": {"x": 1}},
            'unknown key "options.x" in the configuration; known keys: indexer_threads, ',
        ),
        ({"kv_block_size": 16, "workers": [1]}, '"workers" of the configuration must be an array of objects'),
        (
            {"cluster": {}},
            '"endpoint" of the configuration is missing; set it to one like "dynamo.backend.generate"',
        ),
        ({"cluster": {}, "endpoint": "x"}, 'the endpoint "x" must be namespace.component.endpoint'),
        (
            {"cluster": {}, "endpoint": "a.b", "workers": []},
            '"workers" and "cluster" of the configuration exclude each other',
        ),
        (
            {"cluster": {}, "endpoint": "a.b", "mode": "disaggregated"},
            "require each other, and one of them is missing",
        ),
        ({"cluster": {"discovry": "x"}, "endpoint": "a.b"}, '"cluster.discovry"'),
    ],
)
def test_configurations_are_checked(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfigError, match=re.escape(message)):
        Router(config)


def test_a_missing_model_folder() -> None:
    with pytest.raises(ModelNotFoundError, match=r"tokenizer\.json"):
        Router(kv_block_size=16, model="/nowhere")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"endpont": "a.b"}, 'unknown key "endpont" in the configuration; did you mean "endpoint"?'),
        ({"kv_block_size": 16}, '"endpoint" of the configuration is missing'),
        (
            {"endpoint": "a.b"},
            '"kv_block_size" of the configuration is missing; set it to the tokens per block',
        ),
        (
            {"endpoint": "a.b", "kv_block_size": 16, "data_parallel_rank": -1},
            '"data_parallel_rank" of the conf',
        ),
    ],
)
def test_configurations_of_publishers_are_checked(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfigError, match=re.escape(message)):
        KvPublisher(config)


def build_gateway(language: str, program: Path) -> Path:
    """Builds the example of a gateway in C or Go."""
    source = tests_dir.parent / "examples" / "cluster" / f"gateway.{language}"
    if language == "c":
        return compile_c(source, program, *dynamo_config("--cflags", "--libs").split())
    if shutil.which("go") is None:
        pytest.skip("needs Go, of Debian's package golang-go")
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": str(program.parent),
        "CGO_CFLAGS": dynamo_config("--cflags"),
        "CGO_LDFLAGS": dynamo_config("--libs"),
    }
    result = run(["go", "build", "-o", program, source], variables)
    assert result.returncode == 0, result.stderr
    return program


@pytest.mark.parametrize("language", ["c", "go"])
def test_the_example_of_a_gateway(tmp_path: Path, language: str) -> None:
    program = build_gateway(language, tmp_path / "gateway")
    config = {
        "kv_block_size": 16,
        "workers": [described(1), described(2)],
        "model": str(paths.demo_model_dir()),
    }
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
    assert "gateway: DYNAMO_ERROR_UNAVAILABLE: no worker is available; live workers: none" in result.stderr


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
    config = json.dumps({"kv_block_size": 16, "workers": [described(1), described(2)]})
    result = run([program, config], {"DYNAMO_LLM_PYTHON": sys.executable, "HOME": str(tmp_path)})
    assert result.returncode == 0, result.stdout + result.stderr


def test_structs_of_any_size(tmp_path: Path) -> None:
    """Programs in C of older and newer headers."""
    c = tests_dir / "c"
    others = [str(c / "support.c"), f"-I{c}", "-lpthread", "-D_GNU_SOURCE"]
    flags = dynamo_config("--cflags", "--libs").split()
    program = compile_c(c / "test_structs.c", tmp_path / "structs", *others, *flags)
    cluster = {"discovery": "file", "path": str(tmp_path / "discovery")}
    endpoint = {"endpoint": "backend.generate", "cluster": cluster}
    configs: list[dict[str, Any]] = [
        {"kv_block_size": 16, "workers": [described(1), described(2)]},
        {**endpoint, "kv_block_size": 16},
        {**endpoint, "runtime": {"engine": "echo"}, "model": {"name": "echo", "input": "text"}},
    ]
    environment = {"DYNAMO_LLM_PYTHON": sys.executable, "HOME": str(tmp_path)}
    result = run([program, *map(json.dumps, configs)], environment)
    assert result.returncode == 0, result.stderr
