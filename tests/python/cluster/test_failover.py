# SPDX-License-Identifier: Apache-2.0
"""Workers that die or hang under load. The next token of each worker depends on the whole sequence, and every
token is checked.
"""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
from cluster_rig import Cluster, NewCluster, Process
from dynamo_llm import Runtime, UnavailableError
from position_client import client, position_worker, said, tokens
from sequence import continuation
from waiting import wait_until

if importlib.util.find_spec("dynamo") is None:
    pytest.skip("needs the extra: pip install '.[dynamo]'", allow_module_level=True)


#: The library's pipeline, and Dynamo's, which answers without Python.
paths = pytest.mark.parametrize("keys", [{"pipeline": "off"}, {}], ids=["tokens", "frontend"])


def workers_of(cluster: Cluster, count: int, *flags: str) -> list[Process]:
    """Starts workers whose tokens depend on the whole sequence."""
    return [position_worker(cluster, "--sequence", *flags) for _ in range(count)]


def answered_by_all(runtime: Runtime, workers: list[Process]) -> None:
    """Waits until the client sends requests to all of these workers."""

    def has_asked() -> bool:
        check(runtime, [[7, number] for number in range(4)], 1)
        return all(said(worker, "request") for worker in workers)

    wait_until(has_asked)


def check(runtime: Runtime, prompts: list[list[int]], count: int) -> None:
    """Sends requests at the same time, and checks every token of their answers."""
    requests = [runtime.complete(prompt, max_tokens=count) for prompt in prompts]
    for prompt, request in zip(prompts, requests, strict=True):
        assert tokens(request) == continuation(prompt, count), prompt


# ------------------------------------------------------------------------------------- death


@paths
@pytest.mark.parametrize("combination", ["file-tcp-zmq", "etcd-nats-nats"])
def test_requests_after_the_death_of_a_worker(
    new_cluster: NewCluster, combination: str, keys: dict[str, Any]
) -> None:
    """One of three is killed: none of the next 96 requests fails, nor of those after the worker is no longer
    put aside. Dynamo raised "No healthy TCP connection" for requests that it never sent.
    """
    mine = new_cluster(combination)
    workers = workers_of(mine, 3)
    with client(mine, **keys) as runtime:
        answered_by_all(runtime, workers)
        for victim in workers[:2]:
            victim.kill()
            for _ in range(3):
                check(runtime, [[5, 6, number] for number in range(96)], 3)


@paths
def test_the_death_of_two_workers_in_mid_stream(new_cluster: NewCluster, keys: dict[str, Any]) -> None:
    """All streams continue on the third worker."""
    mine = new_cluster()
    workers = workers_of(mine, 3, "--delay=0.01")
    with client(mine, **keys) as runtime:
        answered_by_all(runtime, workers)
        prompts = [[5, 6, number] for number in range(24)]
        requests = [runtime.complete(prompt, max_tokens=100) for prompt in prompts]
        streams = [iter(request) for request in requests]
        got = [list(next(stream).token_ids) for stream in streams]
        for victim in workers[:2]:
            victim.kill()
        for prompt, stream, answer in zip(prompts, streams, got, strict=True):
            answer += [token for response in stream for token in response.token_ids]
            assert answer == continuation(prompt, 100)


def test_raw_requests_after_the_death_of_an_instance(new_cluster: NewCluster) -> None:
    """A raw request may have effects: it is sent again only if no instance can have received it."""
    mine = new_cluster()
    instances = workers_of(mine, 3)
    body: dict[str, Any] = {"stop_conditions": {"max_tokens": 3}, "output_options": {"logprobs": None}}
    with Runtime(
        engine="dynamo-endpoint", cluster=mine.settings, options={"endpoint": "position.generate"}
    ) as runtime:

        def ask(prompt: list[int]) -> Any:
            return runtime.data({**body, "token_ids": prompt})

        def has_asked() -> bool:
            for number in range(4):
                ask([7, number]).result()
            return all(said(instance, "request") for instance in instances)

        wait_until(has_asked)
        instances[0].kill()
        failed = 0
        for _ in range(3):
            prompts = [[5, 6, number] for number in range(96)]
            for prompt, request in zip(prompts, [ask(prompt) for prompt in prompts], strict=True):
                try:
                    items = request.result()
                except UnavailableError as error:
                    # It may have been delivered.
                    assert re.match(r"TCP connection to \S+ failed$", str(error)), error
                    failed += 1
                    continue
                assert [token for item in items for token in item["token_ids"]] == continuation(prompt, 3)
        assert failed < 32


# ------------------------------------------------------------------------------------- hanging


class Load:
    """A client in a process of its own, because the timeouts apply to a process: it sends eight requests at a
    time, again and again.
    """

    def __init__(self, cluster: Cluster, count: int, keys: dict[str, Any]) -> None:
        config = {
            **keys,
            "engine": "dynamo",
            "cluster": {**cluster.settings, "stall_ms": 2000, "request_timeout_ms": 1000},
        }
        prompts = [json.dumps([5, 6, number]) for number in range(8)]
        program = str(Path(__file__).with_name("sequence_client.py"))
        self._cluster = cluster
        self._process = cluster.python("load", program, json.dumps(config), json.dumps(count), *prompts)

    def wait(self, word: str, count: int) -> list[str]:
        """Waits until the client has printed so many lines with this word, and returns them."""

        def lines() -> list[str]:
            found = self._process.log.splitlines()
            assert not [line for line in found if line.startswith("mistakes")], self._process.log
            return [line for line in found if line.startswith(word)]

        self._cluster.wait(lambda: len(lines()) >= count)
        return lines()


@paths
@pytest.mark.parametrize("combination", ["etcd-tcp-zmq", "etcd-nats-nats"])
def test_a_worker_that_is_stopped_in_mid_stream(
    new_cluster: NewCluster, combination: str, keys: dict[str, Any]
) -> None:
    """Its streams continue on another worker, and new requests succeed while it stays registered; it answers
    again when it continues.
    """
    mine = new_cluster(combination, lease_ttl=60)
    workers = workers_of(mine, 3, "--delay=0.02")
    load = Load(mine, 100, keys)
    load.wait("checked", 1)
    load.wait("streaming", 2)
    workers[0].pause()
    load.wait("checked", 6)
    workers[0].resume()
    before = len(said(workers[0], "request"))
    mine.wait(lambda: len(said(workers[0], "request")) > before)
    load.wait("checked", 8)


@paths
def test_a_worker_that_never_answers(new_cluster: NewCluster, keys: dict[str, Any]) -> None:
    """It takes requests, and is silent: others answer them, and for a while it gets no more."""
    mine = new_cluster()
    others = workers_of(mine, 2, "--delay=0.02")
    (silent,) = workers_of(mine, 1, "--silent")
    load = Load(mine, 10, keys)
    mine.wait(lambda: said(silent, "request"))
    took = [float(line.split()[1]) for line in load.wait("checked", 12)]
    assert min(took) < 2.0, took  # it had been put aside
    assert len(said(silent, "request")) < sum(len(said(other, "request")) for other in others) / 5


@paths
def test_a_worker_that_holds_the_gil(new_cluster: NewCluster, keys: dict[str, Any]) -> None:
    """It cannot even begin an answer."""
    mine = new_cluster()
    workers_of(mine, 2, "--delay=0.02")
    (stuck,) = workers_of(mine, 1, "--stuck")
    load = Load(mine, 10, keys)
    mine.wait(lambda: said(stuck, "request"))
    load.wait("checked", 4)


def test_no_worker_that_answers(new_cluster: NewCluster) -> None:
    """The request ends with the reason."""
    mine = new_cluster()
    (silent,) = workers_of(mine, 1, "--silent")
    config = {
        "engine": "dynamo",
        "pipeline": "off",
        "cluster": {**mine.settings, "stall_ms": 1000, "migration_limit": 0},
    }
    program = str(Path(__file__).with_name("sequence_client.py"))
    asking = mine.python("client", program, json.dumps(config), "3", "[5, 6]")
    mine.wait(lambda: said(silent, "request"))
    mine.wait(lambda: "mistakes" in asking.log)
    assert re.search(r'UnavailableError.*sent nothing for 1 seconds \("cluster\.stall_ms"', asking.log), (
        asking.log
    )
