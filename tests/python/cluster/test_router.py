# SPDX-License-Identifier: Apache-2.0
"""Cluster routers over real clusters, with KV events from workers in C."""

import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cluster_rig import Cluster
from cluster_rig.fixtures import NewCluster, combinations, end, make
from dynamo_llm import InvalidArgumentError, NotSupportedError, Router, UnavailableError
from kv_worker import KvWorker, block_size, compile_worker
from waiting import wait_until

path = "dynamo.routed.generate"


class Routed:
    """A cluster with workers that the test controls, and a router over them."""

    def __init__(self, cluster: Cluster, program: Path, count: int, stack: ExitStack) -> None:
        self.cluster = cluster
        self.workers = [KvWorker(cluster, program, path) for _ in range(count)]
        self.router = stack.enter_context(
            Router(endpoint=path, cluster=cluster.settings, kv_block_size=block_size)
        )
        for worker in self.workers:
            warm_up(cluster, self.router, worker)

    def wait(self, condition: Any) -> None:
        self.cluster.wait(condition)

    def overlaps(self, prompt: list[int]) -> list[int]:
        """Returns the overlap of each worker, in order."""
        rows = {row["worker_id"]: row["device_blocks"] for row in self.router.overlaps(prompt)}
        return [rows[worker.id] for worker in self.workers]

    def wait_for(self, prompt: list[int], *expected: int) -> None:
        """Waits until the router knows so many blocks of each worker."""
        wait_until(
            lambda: self.overlaps(prompt) == list(expected),
            lambda: f"{self.overlaps(prompt)}\n{self.cluster.logs()}",
        )

    def load(self, worker: KvWorker) -> dict[str, Any]:
        (found,) = [row for row in self.router.loads() if row["worker_id"] == worker.id]
        return found


def warm_up(cluster: Cluster, router: Router, worker: KvWorker, phase: Any = "all") -> None:
    """Publishes until the worker's events reach the router: it misses events that are published while it
    subscribes, and notices that only at the worker's next event.
    """

    def heard() -> bool:
        first = next(_firsts)
        worker.tell("stored", first, 1)
        until = time.monotonic() + 1
        while time.monotonic() < until:
            rows = router.overlaps(prompt_of(first, 1), phase=phase)
            if any(row["worker_id"] == worker.id and row["device_blocks"] for row in rows):
                return True
            time.sleep(0.02)
        return False

    cluster.wait(heard)
    worker.tell("cleared")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_worker(tmp_path_factory.mktemp("kv-worker"))


@pytest.fixture(scope="module", params=combinations)
def routed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, program: Path
) -> Iterator[Routed]:
    """Two workers, for the tests of a combination; each test leaves no block and no reservation."""
    cluster = make(request.param, tmp_path_factory)
    try:
        with ExitStack() as stack:
            yield Routed(cluster, program, 2, stack)
    finally:
        end(cluster)


#: Each test has its own prompts.
_firsts = itertools.count(100_000, 100_000)


def prompt_of(first: int, blocks: int) -> list[int]:
    return list(range(first, first + blocks * block_size))


def selected(router: Router, *words: Any, **more: Any) -> int:
    worker = router.select(*words, **more).worker
    assert worker is not None
    return worker.worker_id


def test_routers_know_who_has_a_prefix(routed: Routed) -> None:
    first = next(_firsts)
    prompt = prompt_of(first, 5)
    one, two = routed.workers
    one.tell("stored", first, 2)
    two.tell("stored", first, 4)
    routed.wait_for(prompt, 2, 4)
    worker = routed.router.select(prompt).worker
    assert worker is not None
    assert (worker.worker_id, worker.data_parallel_rank, worker.overlap_blocks) == (two.id, 0, 4)
    assert worker.address
    two.tell("stored", first, 5, 4)  # one more, with a parent
    routed.wait_for(prompt, 2, 5)
    two.tell("removed", first, 5)
    routed.wait_for(prompt, 2, 0)
    assert selected(routed.router, prompt) == one.id
    one.tell("step", next(_firsts), 2)
    one.tell("cleared")
    routed.wait_for(prompt, 0, 0)


def test_events_of_a_step_keep_their_order(routed: Routed) -> None:
    first = next(_firsts)
    one, _ = routed.workers
    one.tell("step", first, 4)
    routed.wait_for(prompt_of(first, 4), 3, 0)
    one.tell("cleared")
    routed.wait_for(prompt_of(first, 4), 0, 0)


def test_a_later_router_knows_all_blocks(routed: Routed) -> None:
    first = next(_firsts)
    one, two = routed.workers
    two.tell("stored", first, 3)
    with Router(endpoint=path, cluster=routed.cluster.settings, kv_block_size=block_size) as late:
        prompt = prompt_of(first, 3)
        rows = lambda: {row["worker_id"]: row["device_blocks"] for row in late.overlaps(prompt)}  # noqa: E731
        routed.wait(lambda: rows() == {one.id: 0, two.id: 3})
    two.tell("cleared")


def test_reservations_are_loads(routed: Routed) -> None:
    router, prompt = routed.router, prompt_of(next(_firsts), 4)
    id = selected(router, prompt, request_id="mine")
    (worker,) = [worker for worker in routed.workers if worker.id == id]
    reserved = routed.load(worker)
    assert (reserved["active_requests"], reserved["potential_prefill_tokens"]) == (1, 4 * block_size)
    router.prefill_complete("mine")
    assert routed.load(worker)["potential_prefill_tokens"] == 0
    before = routed.load(worker)["potential_decode_blocks"]
    router.output_block("mine")
    assert routed.load(worker)["potential_decode_blocks"] == before + 1
    with pytest.raises(InvalidArgumentError, match='the request "mine" is already reserved'):
        router.select(prompt, request_id="mine")
    router.free("mine")
    after = routed.load(worker)
    assert (after["active_requests"], after["potential_decode_blocks"]) == (0, 0)
    for call in (router.free, router.prefill_complete, router.output_block):
        with pytest.raises(InvalidArgumentError, match='no request "mine" is reserved'):
            call("mine")


def test_a_reservation_on_a_given_worker_counts(routed: Routed) -> None:
    """Also on one that Dynamo's router would not select."""
    router, first = routed.router, next(_firsts)
    prompt = prompt_of(first, 4)
    one, two = routed.workers
    one.tell("stored", first, 4)
    routed.wait_for(prompt, 4, 0)
    selection = router.select(prompt, worker_ids=[two.id])
    assert selection.worker is not None
    assert (selection.worker.worker_id, selection.worker.overlap_blocks) == (two.id, 0)
    assert selection.token_ids == prompt
    router.reserve("given", selection)
    busy = routed.load(two)
    assert (busy["active_requests"], busy["potential_prefill_tokens"]) == (1, 4 * block_size)
    assert busy["potential_decode_blocks"] == 4
    for _ in range(5):  # no worker has any of these prompts: the idle one wins
        assert selected(router, prompt_of(next(_firsts), 2)) == one.id
    assert selected(router, prompt_of(next(_firsts), 2), request_id="next") == one.id
    router.output_block("given")
    assert routed.load(two)["potential_decode_blocks"] == 5
    router.prefill_complete("given")
    assert routed.load(two)["potential_prefill_tokens"] == 0
    router.free("given")
    router.free("next")
    assert routed.load(two)["potential_decode_blocks"] == 0
    assert routed.load(one)["active_requests"] == 0
    one.tell("cleared")


def test_only_allowed_workers_are_selected_and_reserved(routed: Routed) -> None:
    router, first = routed.router, next(_firsts)
    prompt = prompt_of(first, 4)
    one, two = routed.workers
    one.tell("stored", first, 4)
    routed.wait_for(prompt, 4, 0)
    ids = [f"allowed-{number}" for number in range(4)]
    for id in ids:
        assert selected(router, prompt, worker_ids=[two.id], request_id=id) == two.id
    assert routed.load(two)["active_requests"] == 4
    assert routed.load(two)["potential_decode_blocks"] == 4  # the same prompt, so the same blocks
    for id in ids:
        router.free(id)
    with pytest.raises(
        UnavailableError, match=rf"among the allowed ones \(7\) is available; live workers: .*{one.id}"
    ):
        router.select(prompt, worker_ids=[7])
    one.tell("cleared")


def test_bodies_by_the_models_own_template(routed: Routed) -> None:
    body = {"messages": [{"role": "user", "content": "What is a KV cache?"}]}
    selection = routed.router.select(body)
    assert selection.worker is not None
    assert len(selection.token_ids) == 10
    assert selection.token_ids[0] == 1
    constraints = {"required_taints": ["gpu=x"]}
    with pytest.raises(UnavailableError, match="with the taints gpu=x is available"):
        routed.router.select({**body, "nvext": {"routing_constraints": constraints}})
    with pytest.raises(UnavailableError, match="with the taints gpu=x is available"):
        routed.router.select([1, 2, 3], constraints=constraints)


def test_workers_are_discovered(routed: Routed) -> None:
    workers = routed.router.workers()
    assert {worker["worker_id"] for worker in workers} == {worker.id for worker in routed.workers}
    assert all(worker["phase"] == "aggregated" and worker["address"] for worker in workers)
    with pytest.raises(NotSupportedError, match="they register in the cluster's discovery"):
        routed.router.upsert_worker({"worker_id": 1})
    with pytest.raises(NotSupportedError, match="they register in the cluster's discovery"):
        routed.router.delete_worker(1)
    with pytest.raises(NotSupportedError, match='no "prefill_endpoint"'):
        routed.router.select([1, 2], phase="prefill")
    with pytest.raises(InvalidArgumentError, match="worker 7 rank 0 is not available; live workers: "):
        selection = routed.router.select([1, 2])
        with Router(kv_block_size=block_size, workers=[described(7)]) as other:
            selection = other.select([1, 2])
        routed.router.reserve("lost", selection)


def described(id: int) -> dict[str, Any]:
    """Returns the description of a static router's worker."""
    return {"worker_id": id, "endpoint": f"http://w{id}:1", "kv_events_endpoint": "tcp://127.0.0.1:1"}


def test_the_block_size_is_the_models(routed: Routed) -> None:
    with Router(endpoint=path, cluster=routed.cluster.settings) as router:
        assert router.info == {"mode": "aggregated", "kv_block_size": block_size, "endpoint": path}
    with pytest.raises(UnavailableError, match=r'no worker registered a model at "dynamo\.nobody\.generate"'):
        Router(endpoint="nobody.generate", cluster=routed.cluster.settings, wait_for_workers_ms=200)


def test_workers_come_and_go(new_cluster: NewCluster, program: Path) -> None:
    with ExitStack() as stack:
        routed = Routed(new_cluster("file-tcp-zmq"), program, 3, stack)
        first = next(_firsts)
        prompt = prompt_of(first, 3)
        for number, worker in enumerate(routed.workers):
            worker.tell("stored", first, 3 - number)
        routed.wait_for(prompt, 3, 2, 1)
        for left in (2, 1):
            best = routed.workers.pop(0)
            assert selected(routed.router, prompt) == best.id
            assert best.end() == 0
            routed.wait(lambda left=left: len(routed.router.loads()) == left)
        (last,) = routed.workers
        assert selected(routed.router, prompt) == last.id
        assert last.end() == 0
        routed.wait(lambda: routed.router.loads() == [])
        with pytest.raises(UnavailableError, match="no worker is available; live workers: none"):
            routed.router.select(prompt)


def test_blocks_are_published_again_after_etcd_was_lost(new_cluster: NewCluster, program: Path) -> None:
    """The worker returns with another id, the publisher with its stored blocks, the router by itself."""
    cluster = new_cluster("etcd-tcp-zmq", lease_ttl=3)
    assert cluster.etcd is not None
    with ExitStack() as stack:
        routed = Routed(cluster, program, 1, stack)
        (worker,) = routed.workers
        first = next(_firsts)
        prompt = prompt_of(first, 3)
        worker.tell("stored", first, 3)
        routed.wait_for(prompt, 3)
        assert selected(routed.router, prompt, request_id="before") == worker.id
        cluster.etcd.kill()
        routed.wait(lambda: "is lost" in worker.process.log)
        cluster.etcd.start()

        def is_back() -> bool:
            try:
                selection = routed.router.select(prompt).worker
            except UnavailableError:
                return False
            return (
                selection is not None and selection.worker_id != worker.id and selection.overlap_blocks == 3
            )

        routed.wait(is_back)
        routed.router.free("before")
        with pytest.raises(InvalidArgumentError, match='no request "before" is reserved'):
            routed.router.free("before")


def test_prefill_and_decode(new_cluster: NewCluster, program: Path) -> None:
    cluster = new_cluster("file-tcp-zmq")
    prefill_path, decode_path = "dynamo.prefill.generate", "dynamo.decode.generate"
    prefills = [KvWorker(cluster, program, prefill_path, "Prefill") for _ in range(2)]
    decode = KvWorker(cluster, program, decode_path, "Decode")
    with Router(
        endpoint=decode_path,
        prefill_endpoint=prefill_path,
        mode="disaggregated",
        cluster=cluster.settings,
        kv_block_size=block_size,
    ) as router:
        for worker in prefills:
            warm_up(cluster, router, worker, "prefill")
        cluster.wait(lambda: len(router.loads()) == 1)
        first = next(_firsts)
        prompt = prompt_of(first, 4)
        prefills[1].tell("stored", first, 3)
        cluster.wait(
            lambda: max(row["device_blocks"] for row in router.overlaps(prompt, phase="prefill")) == 3
        )
        selection = router.select(prompt, request_id="both")
        assert selection.worker is not None
        assert selection.prefill_worker is not None
        assert (selection.worker.worker_id, selection.prefill_worker.worker_id) == (decode.id, prefills[1].id)
        assert selection.prefill_worker.overlap_blocks == 3

        def load(phase: Any, worker: KvWorker) -> dict[str, Any]:
            (row,) = [row for row in router.loads(phase=phase) if row["worker_id"] == worker.id]
            return row

        assert load("prefill", prefills[1])["active_requests"] == 1
        assert load("prefill", prefills[1])["potential_prefill_tokens"] == block_size
        assert load("decode", decode)["active_requests"] == 1
        router.prefill_complete("both")
        assert load("prefill", prefills[1])["active_requests"] == 0
        assert load("decode", decode)["active_requests"] == 1
        router.free("both")
        assert load("decode", decode)["active_requests"] == 0
        only = router.select(prompt, phase="prefill")
        assert only.worker is None
        assert only.prefill_worker is not None
        only = router.select(prompt, phase="decode")
        assert only.prefill_worker is None
        router.reserve("again", selection)
        assert load("prefill", prefills[1])["active_requests"] == 1
        router.free("again")
        assert load("prefill", prefills[1])["active_requests"] == 0
        assert {(one["worker_id"], one["phase"]) for one in router.workers()} == {
            (decode.id, "decode"),
            (prefills[0].id, "prefill"),
            (prefills[1].id, "prefill"),
        }
